"""Puts the Markdown files outside ``docs/`` on the site and makes links between all of them work there.

In the repository, a link names a file: ``../benchmarks/README.md``. On the site, the same file is ``benchmarks.md``. A
link to a file that is not on the site, such as a script, keeps its text alone.

The notebook becomes a page with the results and pictures that it was committed with: nothing is run.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

from mkdocs.structure.files import File
from nbconvert import MarkdownExporter

#: file of the repository -> page of the site
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/diary.md": "diary.md",
}
#: the notebook, its page, and where its pictures are
NOTEBOOK, NOTEBOOK_PAGE, PICTURES = "examples/quickstart.ipynb", "quickstart.md", "quickstart_pictures"
_PAGES = {**OUTSIDE, NOTEBOOK: NOTEBOOK_PAGE}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the files of ``OUTSIDE`` and the notebook to the site."""
    root = posixpath.dirname(config.config_file_path)
    for path, page in OUTSIDE.items():
        files.append(File.generated(config, page, abs_src_path=posixpath.join(root, path)))
    for name, content in notebook_files(posixpath.join(root, NOTEBOOK)).items():
        files.append(File.generated(config, name, content=content))
    return files


def notebook_files(path: str) -> dict[str, str | bytes]:
    """Convert a notebook to a page in Markdown and its pictures.

    Returns:
        The content of each file, by its path on the site.
    """
    exporter = MarkdownExporter()
    text, resources = exporter.from_filename(path, {"output_files_dir": PICTURES, "unique_key": "picture"})
    text = text.replace("<th></th>", "<td></td>")  # a corner of a DataFrame is the head of nothing
    return {NOTEBOOK_PAGE: text, **resources["outputs"]}


def on_page_markdown(markdown: str, page: Any, files: Any, **_: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    sources = {page: path for path, page in _PAGES.items()}
    source = sources.get(page.file.src_uri, f"docs/{page.file.src_uri}")

    def on_site(link: re.Match[str]) -> str:
        text, target, fragment = link[1], link[2], link[3] or ""
        if "://" in target:
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        uri = _PAGES.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None:
            return text
        return f"[{text}]({posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or '.')}{fragment})"

    return _LINK.sub(on_site, markdown)
