"""The report: its numbers are the model's, its page is self-contained, and it names users only on request."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from itertools import combinations, pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from conftest import QUICK, REPOSITORY, SUBJECTS, cycle_events, write_dataset
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from PIL import Image
from sklearn.decomposition import PCA
from streams import later, write_events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recbole_llm_interest.cli import compare as runner
from recbole_llm_interest.cli import follow
from recbole_llm_interest.cli.report import main
from recbole_llm_interest.content.catalogue import read_column
from recbole_llm_interest.erasure.request import ErasureRequest
from recbole_llm_interest.errors import DataError
from recbole_llm_interest.evaluation.comparison import estimate
from recbole_llm_interest.evaluation.metrics import event_gains
from recbole_llm_interest.evaluation.results import RunResult, fingerprint, read_results
from recbole_llm_interest.evaluation.significance import bootstrap_interval
from recbole_llm_interest.evaluation.table import write_comparison
from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.report import plots
from recbole_llm_interest.report.plots.style import COLOURS, GREY, HATCHES, INK, MARKERS, PAPER
from recbole_llm_interest.report.statistics import (
    InterestTrajectory,
    ItemMap,
    ModalityWeight,
    Suggestion,
    interest_trajectory,
    item_map,
    modality_weights,
    principal_components,
    project,
    suggestions,
)
from recbole_llm_interest.report.stream_section import stream

SECTIONS = ["metrics", "popularity", "recommendations", "interest", "map", "modalities", "stream", "costs", "training"]


@pytest.fixture(scope="module")
def home(tmp_path_factory, feature_cache):
    """A folder with two models that were trained on ``cycle``, two seeds each, and compared."""
    folder = tmp_path_factory.mktemp("report")
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    write_dataset(folder / "data", "cycle", cycle_events(), titles, {f"u{n}": "librarian" for n in range(0, 24, 2)})
    settings = {**QUICK, "data_path": "data", "feature_cache": feature_cache, "ssl_views_weight": 0.1}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = [f"--{key}={value}" for key, value in settings.items()]
        assert runner.main(["--model=LLMInterest,Pop", "--dataset=cycle", "--seeds=2", "--table=table", *words]) == 0
    return folder


@pytest.fixture(scope="module")
def full(home):
    """The page of a report with every section."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        results = read_results(home / "table.json")
        write_events(home / "events.jsonl", later(users=20, steps=4))
        words = ["--events=events.jsonl", "--output=followed", "--until_end", "--window=15", "--data_path=data"]
        assert follow.main([f"--checkpoint={results[0].checkpoint}", *words]) == 0
        return write(results, "--user=u3", "--titles=title", "--stream=followed", output="full")


@pytest.fixture
def at_home(home, monkeypatch):
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def results(at_home):
    return read_results(at_home / "table.json")


@pytest.fixture
def recommender(results):
    return Recommender.load(results[0].checkpoint)


def write(results, *words, output):
    """Write a report on the first run's checkpoint, and return its page."""
    assert main([f"--checkpoint={results[0].checkpoint}", "--table=table.json", f"--output={output}", *words]) == 0
    with open(f"{output}/report.html", encoding="utf-8") as page:
        return page.read()


class Page(HTMLParser):
    """The tags of a page, and the addresses that it refers to."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.addresses += [value for name, value in attributes if name in ("src", "srcset", "href", "action", "data")]

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def drawings(self):
        """The SVG of each image."""
        heads, bodies = zip(*(address.split(",", 1) for address in self.addresses if address[0] != "#"), strict=True)
        assert set(heads) == {"data:image/svg+xml;base64", "data:"} or set(heads) == {"data:image/svg+xml;base64"}
        return [base64.b64decode(body, validate=True).decode() for body in bodies if body]


# --- the page


def test_a_streams_evaluation_is_drawn_and_told(full, home):
    """The page has the means that following has printed; what they are computed from is tested in tests/stream."""
    found = json.loads((home / "followed" / "evaluation.json").read_text())
    assert len(found["windows"]) == 5
    section = full[full.index('<section id="stream"') : full.index('<section id="costs"')]
    assert "Line charts over 5 windows of events" in section
    for window in found["windows"]:
        assert f"{window['ndcg']:.4f}" in section
        assert f"{window['recall']:.4f}" in section
    assert "New weights were taken up 0 times." in section


def test_successive_windows_share_a_row_where_there_are_many(tmp_path):
    windows = [{"events": 10 * (n + 1), "ndcg": n / 100, "recall": n / 50} for n in range(30)]
    (tmp_path / "evaluation.json").write_text(json.dumps({"windows": windows, "refreshes": 1}))
    section = stream(tmp_path)
    assert [row[0] for row in section.table[1:]] == [str(30 * n) for n in range(1, 11)]
    assert section.table[1] == ["30", "0.0100", "0.0200"]  # means of three
    assert section.notes == ["New weights were taken up 1 time."]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist"),
        ('{"windows": [], "refreshes": 0}', "no whole window yet"),
        ('{"windows": [{"events": 5, "ndcg": 2.0, "recall": 0.0}], "refreshes": 0}', "is no evaluation of a stream"),
        ("[]", "is no evaluation of a stream"),
    ],
)
def test_what_is_no_evaluation_of_a_stream_is_an_error(tmp_path, text, message):
    if text is not None:
        (tmp_path / "evaluation.json").write_text(text)
    with pytest.raises(DataError, match=message):
        stream(tmp_path)


def test_page_is_complete_and_self_contained(full, at_home):
    page = Page(full)
    assert [section["id"] for section in page.all("section")] == ["result", *SECTIONS, "about"]
    assert all(address.startswith(("data:", "#")) for address in page.addresses)
    assert not re.search(r"https?:|//\w|@import|url\(|<script|<iframe", full)
    assert len(page.all("img")) == len(page.all("source")) == len(SECTIONS)
    assert all(len(image["alt"]) > 20 for image in page.all("img"))
    drawings = page.drawings()
    assert len(drawings) == 2 * len(SECTIONS)
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        assert root.tag.endswith("svg")
        for element in root.iter():
            addresses = [value for name, value in element.attrib.items() if name.rpartition("}")[2] in ("href", "src")]
            assert all(address.startswith(("#", "data:image/png;base64,")) for address in addresses)
    for name in SECTIONS:
        with Image.open(at_home / "full" / f"{name}.png") as picture:
            assert picture.width == round(150 * plots.WIDE)
            assert picture.convert("L").getextrema()[0] < 64


def words_of(text):
    """The text of a page and of its drawings, where matplotlib repeats each text as a comment."""
    drawn = [word for drawing in Page(text).drawings() for word in re.findall(r"<!-- (.*?) -->", drawing)]
    return "\n".join([re.sub(r"base64,[\w+/=]+", "", text), *drawn])


def test_report_names_users_and_titles_only_on_request(results, full):
    plain = words_of(write(results, output="plain"))
    assert not re.search(r"\bu\d+\b", plain)
    assert "A film about" not in plain
    by_id = words_of(write(results, "--user=u3", output="ids"))
    assert set(re.findall(r"\bu\d+\b", by_id)) == {"u3"}
    assert "A film about" not in by_id
    assert set(re.findall(r"\bu\d+\b", words_of(full))) == {"u3"}
    assert words_of(full).count("A film about whales") > 2


def test_words_are_escaped(results, at_home):
    odd = [
        RunResult(**{**vars(run), "variant": "<b>$a_$ & b</b>", "note": "<script>alert(1)</script>"}) for run in results
    ]
    write_comparison(odd, at_home / "odd.json")
    assert main(["--table=odd.json", "--output=odd"]) == 0
    page = (at_home / "odd" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;b&gt;$a_$ &amp; b&lt;/b&gt;" in page


def test_control_characters_and_formulas_are_shown(results, at_home):
    """A table is a file like any other: names of rows, losses and metrics, and notes, may be anything."""
    odd = "\x1b[31m\x07 \u202e $\\frac$ $x_$ \ufffe\n"
    runs = [
        replace(run, variant=f"{odd}{run.variant}", note=odd, dataset=odd, losses={odd: [1.0]}, valid_metric="NDCG@3")
        for run in results
    ]
    write_comparison(runs, at_home / "controls.json")
    with warnings.catch_warnings(action="error"):
        assert main(["--table=controls.json", "--output=controls"]) == 0
    page = (at_home / "controls" / "report.html").read_text()
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufffe]", page)
    assert "\\x1b[31m\\x07" in page
    for drawing in Page(page).drawings():
        ElementTree.fromstring(drawing)


@pytest.mark.slow
def test_report_identifies_the_data(results, at_home):
    write_comparison([*results[:1], replace(results[1], data={"cycle.inter": "0"})], at_home / "two.json")
    assert main(["--table=two.json", "--output=two"]) == 0
    page = (at_home / "two" / "report.html").read_text()
    both = f"{fingerprint(results[0].data)}, {fingerprint({'cycle.inter': '0'})}"
    assert f"<dt>fingerprint of the data</dt><dd>{both}</dd>" in page
    assert "NOT on the same data" in page


@pytest.mark.slow
def test_report_of_a_table_alone_lists_what_is_absent(results, at_home):
    for folder in ("alone", "again"):
        assert main(["--table=table.json", f"--output={folder}"]) == 0
    page = (at_home / "alone" / "report.html").read_text()
    assert (at_home / "again" / "report.html").read_text() == page
    assert [section["id"] for section in Page(page).all("section")] == [
        *("result", "metrics", "popularity", "costs", "training", "about"),
    ]  # fmt: skip
    assert "give a checkpoint by --checkpoint" in page


def test_report_of_a_checkpoint_alone(results, at_home):
    assert main([f"--checkpoint={results[0].checkpoint}", "--map=pca", "--category=title"]) == 0
    (folder,) = at_home.glob("saved/report-LLMInterest*")
    page = (folder / "report.html").read_text()
    assert [section["id"] for section in Page(page).all("section")] == ["map", "modalities", "about"]


def test_table_of_a_former_version_gives_the_sections_it_can(results, at_home):
    lacks = {"ranks": [], "filtered_ranks": [], "item_counts": [], "losses": {}, "valid_scores": [], "protocol": {},
             "data_card": {}, "cpu_seconds_per_epoch": None, "seconds_to_best": None,
             "peak_memory_mb": None}  # fmt: skip
    old = [RunResult(**{**vars(run), **lacks}) for run in results]
    write_comparison(old, at_home / "old.json")
    assert main(["--table=old.json", "--output=old"]) == 0
    page = (at_home / "old" / "report.html").read_text()
    assert [section["id"] for section in Page(page).all("section")] == ["result", "metrics", "costs", "about"]
    assert "seconds an epoch" in page
    assert "CPU seconds" not in page
    assert "training curves: the table has none" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "there is nothing to show"),
        (["--checkpoint=saved/none.pth"], "saved/none.pth does not exist"),
        (["--checkpoint=table.json"], "is not one that this package or RecBole wrote"),
        (["--table=none.json"], "table none.json does not exist"),
        (["--table=table.json", "--user=u3"], "--user needs a model"),
        (["--table=table.json", "--data_path=data"], "--data_path needs a model"),
        (["--checkpoint=CHECKPOINT", "--user=nobody"], "unknown user 'nobody': it is not among the 24 users"),
        (
            ["--checkpoint=CHECKPOINT", "--titles=titel"],
            "names 'titel', which data/cycle/cycle.item does not have: did",
        ),
        (["--checkpoint=CHECKPOINT", "--table=other.json"], "is of data set 'other', and"),
        (["--checkpoint=CHECKPOINT", "--user=u3", "--events=1"], "--events=1"),
        (["--checkpoint=CHECKPOINT", "--map=round"], "invalid choice: 'round'"),
        (["--checkpoint=CHECKPOINT", "--map=umap"], "needs a package that is not installed: pip install umap-learn"),
        (["--table=empty.json"], "holds no runs"),
        (
            ["--table=table.json", "--output=table.json"],
            "cannot be written (File exists): move the file or folder that has its name or its folder's, or "
            "give another",
        ),
    ],
)
def test_mistake_is_one_line(results, at_home, words, message, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)  # also where it is installed
    write_comparison([RunResult(**{**vars(results[0]), "dataset": "other"})], at_home / "other.json")
    (at_home / "empty.json").write_text("[]\n")
    assert main([word.replace("CHECKPOINT", results[0].checkpoint) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.rstrip("\n").splitlines()[-1].startswith("error: ")
    assert "Traceback" not in error


MEASURE = """<!DOCTYPE html><title>measure</title>
<iframe src="report.html" width="{width}" height="3000" style="border:0"></iframe>
<script>
window.addEventListener("load", () => {{
  const view = document.querySelector("iframe"), page = view.contentDocument;
  const images = [...page.images].map(image => {{
    const box = image.getBoundingClientRect();
    return {{loaded: image.complete && image.naturalWidth > 0, width: box.width, height: box.height, left: box.left,
            right: box.right, narrow: image.currentSrc !== image.src, alt: image.alt}};
  }});
  const asked = view.contentWindow.performance.getEntriesByType("resource").map(entry => entry.name);
  const result = {{images, asked: asked.filter(name => !name.startsWith("data:")),
                  overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth}};
  document.body.innerHTML = "<pre>" + btoa(unescape(encodeURIComponent(JSON.stringify(result)))) + "</pre>";
}});
</script>
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_chromium_shows_every_figure(full, at_home, tmp_path, width):
    """The console is empty, nothing is requested, and each figure is within the page."""
    (at_home / "full" / "measure.html").write_text(MEASURE.format(width=width))
    command = [
        *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"),
        *("--disable-background-networking", "--allow-file-access-from-files", "--enable-logging=stderr"),
        *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--window-size=1400,3200", "--dump-dom"),
        (at_home / "full" / "measure.html").as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    measured = json.loads(base64.b64decode(re.search(r"<pre>(.*)</pre>", done.stdout)[1]))
    assert "CONSOLE" not in done.stderr, done.stderr
    assert measured["asked"] == []
    assert measured["overflow"] <= 0
    assert len(measured["images"]) == len(SECTIONS)
    for image in measured["images"]:
        assert image["loaded"], image["alt"]
        assert image["narrow"] == (width == 400)
        assert image["width"] > 0.6 * min(width, 1000)
        assert image["height"] > 80
        assert image["left"] >= 0
        assert image["right"] <= width


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_axe_finds_no_violation(full, at_home, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from accessibility import check

    bad = tmp_path / "bad.html"
    bad.write_text("<!DOCTYPE html><title>bad</title><img src='data:,'>")
    findings = list(check([at_home / "full" / "report.html", bad]))
    assert [(one.width, one.scheme) for one in findings[:4]] == [
        *[(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]
    ]
    for found in findings[:4]:
        assert found.violations == {}
        assert found.overflow <= 0
        assert found.passes > 30
    assert all(found.violations["image-alt"] == 1 for found in findings[4:])


# --- readable for everybody


class Outline(HTMLParser):
    """The headings of a page by level, its ids, and whether each table has a caption and heads with a scope."""

    def __init__(self, text):
        super().__init__()
        self.levels, self.ids, self.tables, self.tags = [], [], [], Counter()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags[tag] += 1
        self.ids += [given["id"]] if "id" in given else []
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "table":
            self.tables.append([])
        if self.tables and tag in ("caption", "th"):
            self.tables[-1].append((tag, given.get("scope")))


def test_page_has_landmarks_headings_in_order_and_named_tables(full):
    outline, page = Outline(full), Page(full)
    assert page.all("html")[0]["lang"] == "en"
    assert [outline.tags[tag] for tag in ("main", "header", "nav", "h1")] == [1, 1, 1, 1]
    assert outline.levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(outline.levels))
    assert len(outline.ids) == len(set(outline.ids))
    assert {address.removeprefix("#") for address in page.addresses if address[0] == "#"} <= set(outline.ids)
    for section in page.all("section"):
        assert section["aria-labelledby"] in outline.ids
    assert len(outline.tables) == 7
    for parts in outline.tables:
        assert parts[0] == ("caption", None)
        assert set(parts[1:]) == {("th", "col"), ("th", "row")}
    boxes = [box for box in page.all("div") if box.get("class") == "scroll"]
    assert all(box["tabindex"] == "0" and box["aria-labelledby"] in outline.ids for box in boxes)


def luminance(color):
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in to_rgb(color))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    """The contrast ratio of two colors, as WCAG 2 defines it."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_has_contrast_on_light_and_dark_screens(full):
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", rule)) for rule in re.findall(r":root {(.*?)}", full))
    assert light.keys() == dark.keys()
    for colors in (light, dark):
        for text in ("ink", "soft", "link"):
            assert contrast(colors[text], colors["paper"]) >= 4.5
            assert contrast(colors[text], colors["box"]) >= 4.5
    assert dark["paper"] == plots.ON_DARK[PAPER]
    for text in (INK, GREY):
        assert contrast(text, PAPER) >= 4.5
        assert contrast(plots.ON_DARK[text], dark["paper"]) >= 4.5


def test_drawings_change_their_colors_on_dark_screens(full):
    for drawing in Page(full).drawings():
        rule = re.search(r"@media screen and \(prefers-color-scheme:dark\){:root{(.*?)}}", drawing)[1]
        assert set(re.findall(r"#\w{6}", rule)) == set(plots.ON_DARK.values())
        body = drawing.split("</style>", 1)[1]
        assert "var(--c0)" in body
        assert not any(color in body for color in plots.ON_DARK)
        assert "#000000" not in body


#: Machado, Oliveira and Fernandes (2009), severity 1
BLINDNESS = {
    "none": np.eye(3),
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "tritanopia": [[1.2555, -0.0767, -0.1788], [-0.0784, 0.9308, 0.1476], [0.0047, 0.6914, 0.3039]],
}


@pytest.mark.parametrize("kind", BLINDNESS)
def test_colors_differ_for_color_blind_readers(kind):
    """A difference of 2.3 in CIELAB is just noticeable; markers and hatches differ too."""
    rgb = np.array([to_rgb(color) for color in COLOURS])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.array(BLINDNESS[kind]).T
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.cbrt(linear.clip(0, 1) @ to_xyz.T / np.array([0.9505, 1, 1.089]))
    lab = np.column_stack([116 * xyz[:, 1], 500 * (xyz[:, 0] - xyz[:, 1]), 200 * (xyz[:, 1] - xyz[:, 2])])
    distances = [np.linalg.norm(one - other) for one, other in combinations(lab, 2)]
    assert min(distances) > 15
    assert len(set(MARKERS)) == len(set(HATCHES)) == len(COLOURS)


def test_page_says_what_comes_first(full, results):
    """The result stands before all figures, by both protocols, and its numbers are the table's."""
    said = full[full.index('id="result"') : full.index("<figure>")]
    assert "Seen items kept" in said
    assert "Seen items filtered" in said
    best = max(
        estimate([run for run in results if run.variant == name], "ndcg@3").mean for name in ("LLMInterest", "Pop")
    )
    assert f"NDCG@3 {best:.4f} over 24 test events" in said


def test_letters_without_a_font_are_named_below_the_figure_and_by_the_command(results, at_home, capsys, monkeypatch):
    odd = [replace(run, variant=f"卧虎 {run.variant}") for run in results]
    write_comparison(odd, at_home / "chinese.json")
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    assert main(["--table=chinese.json", "--output=chinese"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "no font" in line]
    assert "apt-get install fonts-noto-cjk" in line
    assert (at_home / "chinese" / "report.html").read_text().count("no font for 2 letters") == 3


# --- the numbers


def test_losses_are_those_in_tensorboard(results):
    run = results[0]
    events = EventAccumulator(str(run.log).removesuffix(".log"))
    events.Reload()
    assert list(run.losses) == ["next_item", "walks", "views"]
    for name, values in run.losses.items():
        assert [event.value for event in events.Scalars(f"train/{name}")] == pytest.approx(values, rel=1e-5)
    assert [epoch for epoch, _ in run.valid_scores] == list(range(1, run.epochs + 1))
    assert max(score for _, score in run.valid_scores) == pytest.approx(run.best_valid)


def test_estimate_is_the_mean_of_gains_and_its_interval(results):
    runs = [run for run in results if run.variant == "LLMInterest"]
    of_runs = [event_gains("ndcg", torch.tensor(run.ranks), 3).numpy() for run in runs]
    estimated = estimate(runs, "NDCG@3")
    assert estimated.values == pytest.approx([run.test["ndcg@3"] for run in runs], abs=1e-4)
    assert estimated.mean == pytest.approx(np.mean(of_runs))
    assert estimated.interval == bootstrap_interval(np.mean(of_runs, axis=0))
    assert estimated.interval[0] < estimated.mean < estimated.interval[1]
    assert estimated.events == 24


def test_estimate_of_a_group_is_that_of_its_events(results):
    run = RunResult(**{**vars(results[0]), "ranks": [1, 0, 3, 2], "item_counts": [0, 0, 9, 10]})
    assert estimate([run], "Recall@3", "Unseen").values == [0.5]
    assert estimate([run], "Recall@3", "Few").values == [1.0]
    assert estimate([run], "MRR@3", "Many").mean == 0.5
    assert estimate([RunResult(**{**vars(run), "item_counts": [0] * 4})], "MRR@3", "Many") is None
    reported = RunResult(**{**vars(run), "ranks": [], "test": {"ndcgfew@3": 0.25}})
    assert estimate([reported], "NDCG@3", "Few").mean == 0.25
    assert estimate([reported], "NDCG@3", "Few").interval is None


@pytest.mark.slow
def test_groups_are_those_of_the_metrics(settings):
    """The estimate from the table's ranks equals the metric of RecBole's evaluator for the group."""
    (run,) = runner.run(["LLMInterest"], "cycle", config_dict={**settings, "metrics": ["NDCG", "NDCGMany"]})
    assert estimate([run], "NDCG@3", "Many").mean == pytest.approx(run.test["ndcgmany@3"], abs=1e-4)


def test_interest_trajectory_equals_the_recommenders(recommender):
    trajectory = interest_trajectory(recommender, "u3", 5)
    assert trajectory.weights.shape == (5, len(trajectory.names))
    assert trajectory.weights.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-5)
    assert trajectory.items == [f"i{(3 + step) % len(SUBJECTS)}" for step in range(4, 9)]
    assert trajectory.before == 4
    after = {interest.name: interest.weight for interest in
             recommender.interests(recommender.start("u3", history="recorded"))}  # fmt: skip
    assert dict(zip(trajectory.names, trajectory.weights[-1], strict=True)) == pytest.approx(after, abs=1e-5)


def test_suggestions_are_the_recommenders(recommender):
    """Both lists, seen items kept and filtered, with the parts and reasons that ``explain`` gives."""
    state = recommender.start("u3", history="recorded")
    shown = suggestions(recommender, "u3", 3)
    kept = [best.item for best in recommender.recommend(state, k=3)]
    by_rank = {one.rank: one for one in shown}
    assert [by_rank[rank].title for rank in (1, 2, 3)] == [recommender.label(item) for item in kept]
    assert [one.score for one in shown] == sorted((one.score for one in shown), reverse=True)
    for one in shown:
        assert one.unseen_rank is None  # u3 has had all eight items
        assert sum(one.parts.values()) == pytest.approx(one.score, abs=1e-3)
    assert len(shown) == 3
    explained = recommender.explain(state, kept[0])
    assert by_rank[1].parts == {part.name: part.points for part in explained.of_item}
    assert by_rank[1].reasons == [(part.title or part.name, part.points) for part in explained.of_user]
    assert "A film about chess" in [name for name, _ in by_rank[1].reasons]


def test_suggestions_of_items_that_the_user_has_not_seen(recommender, monkeypatch):
    few = recommender.start("u3", history=["i1", "i2"])
    original = recommender.start
    monkeypatch.setattr(recommender, "start", lambda user, history: few if history == "recorded" else original(user))
    shown = suggestions(recommender, "u3", 2)
    unseen = [best.item for best in recommender.recommend(few, k=2, exclude_seen=True)]
    ranked = {one.unseen_rank: one.title for one in shown if one.unseen_rank is not None}
    assert [ranked[1], ranked[2]] == [recommender.label(item) for item in unseen]
    assert all(one.unseen_rank is None for one in shown if one.title in map(recommender.label, ("i1", "i2")))


@pytest.mark.parametrize("layout", ["tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_layout_keeps_groups_apart_that_two_components_mix(layout):
    """Twelve groups, each on an axis of its own: a plane of principal components cannot separate them."""
    chance = np.random.default_rng(0)
    groups = np.repeat(np.arange(12), 20)
    factors = np.eye(60)[groups] + chance.normal(scale=0.05, size=(240, 60))
    plane, _ = principal_components(factors)
    near = {}
    for name, points in (("pca", plane), (layout, project(factors, layout))):
        distances = np.linalg.norm(points[:, None] - points[None], axis=2) + np.diag([np.inf] * 240)
        near[name] = (groups[distances.argsort(axis=1)[:, :10]] == groups[:, None]).mean()
    assert near[layout] > 0.98
    assert near["pca"] < 0.9


def test_stacked_areas_reach_one(recommender):
    trajectory = interest_trajectory(recommender, "u3", 5)
    many = InterestTrajectory([f"interest {n}" for n in range(9)], [0.5] * 9,
                   np.random.default_rng(0).dirichlet(np.ones(9), 20),
                   ["i"] * 20, ["item"] * 20, [n % 9 for n in range(20)], 3, [float("nan")] * 20)  # fmt: skip
    for one in (trajectory, many):
        names, weights = plots.largest_interests(one)
        assert len(names) <= 7
        assert weights.sum(axis=1) == pytest.approx(np.ones(len(weights)), abs=1e-5)
        for width, events in ((plots.WIDE, len(weights)), (plots.NARROW, min(len(weights), 15))):
            areas = plots.draw_interest(one, width).axes[0]
            bands = [band.get_paths()[0].get_extents() for band in areas.collections]
            assert len(bands) == len(names)
            assert bands[-1].y1 == pytest.approx(1, abs=1e-5)
            assert bands[0].y0 == 0
            assert areas.get_xlim()[1] - areas.get_xlim()[0] == events


def test_map_is_the_principal_components_of_unit_vectors(recommender):
    drawn = item_map(recommender, {"i0": ["first", "second"]}, ["i3", "i4"], "pca")
    unit = torch.nn.functional.normalize(recommender.items.representations[1:], dim=1).double().numpy()
    reference = PCA(2).fit(unit)
    expected = reference.transform(unit)
    signs = np.sign((drawn.coordinates * expected).sum(axis=0))
    assert drawn.coordinates == pytest.approx(expected * signs, abs=1e-6)
    shares = [f"({share:.0%} of variance)" for share in reference.explained_variance_ratio_]
    assert [axis.partition("1 ")[2] or axis.partition("2 ")[2] for axis in drawn.axes] == shares
    assert sorted(drawn.categories) == ["first", *["unknown"] * 7]
    tokens = recommender.items.tokens[1:]
    assert [tokens[place] for place in drawn.path] == ["i3", "i4"]


def test_principal_components_do_not_depend_on_the_order_of_rows():
    rows = np.random.default_rng(0).normal(size=(40, 5)) * np.arange(1, 6)
    coordinates, shares = principal_components(rows)
    again, _ = principal_components(rows[::-1])
    assert coordinates == pytest.approx(again[::-1])
    assert shares[0] >= shares[1]
    flat, _ = principal_components(np.ones((3, 4)))
    assert flat == pytest.approx(np.zeros((3, 2)))


def test_modality_weights_are_means_over_those_that_have_it(recommender):
    fusion = recommender._trained.model.item_encoder
    weights, present = fusion.weights()[1:], fusion.get_buffer("present")[1:]
    statistics = modality_weights(fusion)
    assert [weight.name for weight in statistics] == ["text", "id"]
    for column, weight in enumerate(statistics):
        own = weights[present[:, column], column].double().numpy()
        assert weight.mean == pytest.approx(own.mean())
        assert (weight.present, weight.total) == (len(own), 8)
        assert weight.low <= weight.mean <= weight.high


def test_columns_of_items(tmp_path):
    write_dataset(tmp_path, "d", [("u", "a", 1.0)], {"a": "Toy  Story", "b": ""})
    column = read_column(tmp_path / "d", "d", "item", "item_id", "title")
    assert column == {"a": ["Toy", "Story"]}
    (tmp_path / "d" / "content").mkdir()
    (tmp_path / "d" / "content" / "items.jsonl").write_text(
        '{"item_id": "a", "genres": ["Sci Fi", "War"], "year": 1}\n'
    )
    assert read_column(tmp_path / "d", "d", "item", "item_id", "genres") == {"a": ["Sci Fi", "War"]}
    assert read_column(tmp_path / "d", "d", "item", "item_id", "year") == {"a": ["1"]}
    with pytest.raises(DataError, match=r"genre.*did you mean 'genres'"):
        read_column(tmp_path / "d", "d", "item", "item_id", "genre")


# --- the pictures


@pytest.mark.slow
@pytest.mark.parametrize("width", [plots.WIDE, plots.NARROW])
def test_figures_are_drawn_without_warnings_for_extreme_numbers_and_names(width, tmp_path):
    """With one value or very many, long names and dollar signs; matplotlib warns of a crowded layout."""
    long = "a very long name of $ome row that $omebody thought of_ at night " * 2
    runs = [RunResult("r", "m", "d", 1, {"ndcg@10": 0.5}, "NDCG@10", 0.5, 1, 1.0, 1, 3, "all", "x", "c", "l")]
    one = estimate(runs, "NDCG@10")
    two = InterestTrajectory(
        ["a", "b"], [None, 0.5], np.array([[0.2, 0.8], [1.0, 0.0]]), ["i", "j"], [long, "$"], [0, 1], 0, [8e8, 9e8]
    )
    many = {f"part {n}": 0.5 - n / 5 for n in range(9)}
    figures = [
        plots.draw_training({"loss": [1.0]}, [], "NDCG@10", width),
        plots.draw_training({f"part {n}": [1.0] * 40 for n in range(7)}, [[1, 0.1], [2, 0.1]], "NDCG@10", width),
        plots.draw_stream([5], {"NDCG@10": [0.0], "recall@10": [1.0]}, width),
        plots.draw_estimates({long: {long: one, "b": None}}, width),
        plots.draw_estimates({f"metric {n}": {f"row {n}": one for n in range(12)} for n in range(5)}, width),
        plots.draw_modalities({"items": [ModalityWeight("id", 1.0, 1.0, 1.0, 3, 3)]}, width),
        plots.draw_interest(two, width),
        plots.draw_recommendations([Suggestion(long, 1.0, 1, None, many, [], True)], list(many), width),
        plots.draw_map(ItemMap(np.zeros((1, 2)), [long], [], [], ("x", "y"), 1), width),
        plots.draw_map(ItemMap(np.random.default_rng(0).normal(size=(90, 2)), [f"{n % 30}" for n in range(90)],
                               [3, 3, 4], ["$a", "b$", long], ("x", "y"), 90), width),
    ]  # fmt: skip
    for figure in figures:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            figure.savefig(tmp_path / "figure.png")
        assert figure.get_size_inches()[0] == width


def test_bands_and_markers_differ_without_colour():
    names = [f"interest {n}" for n in range(9)]
    many = InterestTrajectory(
        names, [None] * 9, np.full((4, 9), 1 / 9), ["i"] * 4, ["item"] * 4, [0, 1, 2, 3], 0, [float("nan")] * 4
    )
    areas, events = plots.draw_interest(many, plots.WIDE).axes
    looks = {(band.get_hatch(), tuple(band.get_facecolor()[0]) == (1, 1, 1, 1)) for band in areas.collections}
    assert len(looks) == len(areas.collections) == 7
    assert len({line.get_marker() for line in events.lines}) == 4


def test_help_states_what_a_report_contains(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    words = " ".join(capsys.readouterr().out.split())
    assert "names a user only with --user, and items' titles only with --titles" in words


def test_former_module_name_runs_the_command(at_home, results):
    command = [sys.executable, "-m", "recbole_llm_interest.report", "--table=table.json", "--output=own"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("report: own/report.html | pictures: own/metrics.png")


def test_commands_read_a_checkpoint_once(tiny_checkpoint, tmp_path, monkeypatch):
    from recbole_llm_interest.cli import report as command
    from recbole_llm_interest.recommender import loading

    read, original = [], loading.load_checkpoint
    monkeypatch.setattr(loading, "load_checkpoint", lambda path: read.append(path) or original(path))
    assert command.main([f"--checkpoint={tiny_checkpoint}", f"--output={tmp_path / 'report'}"]) == 0
    assert len(read) == 1


def test_forget_finds_each_id_that_a_report_names(results, at_home):
    """Without titles, the page has ids of items: in tables, and in the reasons of recommendations."""
    page = write(results, "--user=u3", output="named")
    for number in range(8):
        pattern = ErasureRequest("item", "item_id", frozenset({f"i{number}"})).in_report
        for row in re.findall(r"<tr>.*</tr>", page):
            assert bool(pattern.search(row.encode())) == bool(re.search(rf"\bi{number}\b", row)), row
