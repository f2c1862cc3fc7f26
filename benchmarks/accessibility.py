"""Counts what axe-core finds on HTML pages, light and dark, at 1280 and 400 pixels, and takes a screenshot of each.

    python benchmarks/accessibility.py saved/report-…/report.html
    python benchmarks/accessibility.py --shots=shots site/index.html site/*/index.html

A page is loaded in Chromium; scripts of the page run as they would for a reader. The rules are WCAG 2.2, levels A and
AA, and axe-core's best practices. Needs playwright and axe-playwright-python (extra ``test``), and a Chromium that is
installed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, sync_playwright
from tabulate import tabulate
from tqdm import tqdm

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
WIDTHS = (1280, 400)
SCHEMES = ("light", "dark")


@dataclass(frozen=True)
class Finding:
    """What was found on one page.

    Attributes:
        page: its path.
        width: of the window in pixels.
        scheme: ``light`` or ``dark``.
        violations: number of elements by the rule that they violate.
        passes: number of rules that the page fulfils.
        overflow: pixels by which the page is wider than the window.
    """

    page: Path
    width: int
    scheme: str
    violations: dict[str, int]
    passes: int
    overflow: int


def chromium() -> str | None:
    """Return the path of an installed Chromium or Chrome; None if there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def check(pages: Sequence[Path], shots: Path | None = None) -> Iterator[Finding]:
    """Check each page at each width in each scheme.

    Args:
        pages: HTML files.
        shots: folder for screenshots; None for none.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"])
        for page in pages:
            for width in WIDTHS:
                for scheme in SCHEMES:
                    yield _check(browser, page, width, scheme, shots)


def _check(browser: Browser, path: Path, width: int, scheme: str, shots: Path | None) -> Finding:
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        bypass_csp=True,  # axe-core is a script that the page itself would refuse
    )
    page = context.new_page()
    page.goto(path.resolve().as_uri())
    if shots:
        shots.mkdir(parents=True, exist_ok=True)
        name = f"{path.parent.name}-{path.stem}-{width}-{scheme}.png"
        page.screenshot(path=shots / name, full_page=True)
    overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    result = Axe().run(page, options={"runOnly": RULES}).response
    context.close()
    violations = {one["id"]: len(one["nodes"]) for one in result["violations"]}
    return Finding(path, width, scheme, violations, len(result["passes"]), overflow)


def main() -> int:
    """Print one row a page, width and scheme. Returns 1 if a rule is violated, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pages", nargs="+", type=Path, help="HTML files")
    parser.add_argument("--shots", type=Path, help="folder for screenshots")
    options = parser.parse_args()
    if chromium() is None:
        parser.error("no Chromium is installed: apt install chromium")
    count = len(options.pages) * len(WIDTHS) * len(SCHEMES)
    findings = list(tqdm(check(options.pages, options.shots), total=count, unit="page", disable=None))
    rows = [
        [one.page, one.width, one.scheme, sum(one.violations.values()), ", ".join(one.violations), one.passes,
         one.overflow]
        for one in findings
    ]  # fmt: skip
    print(tabulate(rows, ["page", "width", "scheme", "violations", "rules violated", "rules passed", "overflow, px"],
                   tablefmt="github"))  # fmt: skip
    print(f"\n{sum(sum(one.violations.values()) for one in findings)} violations on {len(options.pages)} pages")
    return int(any(one.violations for one in findings))


if __name__ == "__main__":
    sys.exit(main())
