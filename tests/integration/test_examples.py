"""The three worked examples run, and find what is known to be true of the data that they make."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import REPOSITORY

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def made(monkeypatch):
    """Lets the examples' modules be imported."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


def printed(here, feature_cache, script, *words):
    """What an example prints, from beginning to end."""
    command = [
        sys.executable,
        str(EXAMPLES / script),
        "--show_progress=False",
        f"--feature_cache={feature_cache}",
        *words,
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    return done.stdout


def row(text, name):
    """The numbers of one row of a table."""
    return [float(cell) for cell in re.search(rf"^\| {re.escape(name)} +\|(.*)\|$", text, re.MULTILINE)[1].split("|")]


@pytest.mark.slow
def test_videos(here, feature_cache):
    text = printed(here, feature_cache, "videos.py", "--viewers=500", "--new_viewers=100", "--epochs=16")
    best = float(re.search(r"knowing each viewer's routine: recall@10 ([\d.]+)", text)[1])
    ours, by_ids, popular = (
        float(re.search(rf"^\| {name} +\| +([\d.]+)", text, re.MULTILINE)[1])
        for name in ("LLMInterest", "IDs alone", "Pop")
    )
    assert 0.4 * best < ours < best + 0.05
    assert ours > 3 * max(by_ids, popular)
    topics = re.findall(r"^\| [^|]+ \| (\w[\w ]*?) +\| +-?[\d.]+ +\|$", text, re.MULTILINE)
    assert len(topics) == 15
    assert sum(topic in ("baking", "astronomy", "jazz") for topic in topics) >= 10
    assert topics[5:10].count("astronomy") >= 3  # after two on baking
    assert topics[10:].count("jazz") >= 3  # after two more, on astronomy
    found, by_chance, at_best = map(
        float, re.search(r"by LLMInterest (.+), by chance (.+), at best (.+)", text).groups()
    )
    assert 2 * by_chance < found < at_best
    for path in re.search(r"data: (\S+) \| table: (\S+) \| checkpoint: (\S+)", text).groups():
        assert (here / path).exists()


@pytest.mark.slow
def test_ads(here, feature_cache):
    text = printed(here, feature_cache, "ads.py", "--viewers=600", "--new_viewers=400", "--epochs=20")
    ours, any_ad, best = (row(text, name)[0] for name in ("LLMInterest", "any ad", "the best possible"))
    nearest = row(text, "the ad nearest by text to the last video")[0]
    assert 2 * any_ad < ours < best
    assert ours > nearest
    assert float(re.search(r"expected calibration error ([\d.]+)", text)[1]) < 0.025
    area, at_best = map(float, re.search(r"ROC curve ([\d.]+), by the true probabilities ([\d.]+)", text).groups())
    assert 0.6 < area < at_best
    loss, at_best, blind = map(float, re.search(r"log loss ([\d.]+), .*? ([\d.]+), .*? ([\d.]+)$", text, re.M).groups())
    assert at_best < loss < blind
    ads = [json.loads(line) for line in (here / "data/videos/ads.jsonl").read_text().splitlines()]
    assert not {ad["item_id"] for ad in ads} & set((here / "data/videos/videos.inter").read_text().split())


@pytest.mark.slow
def test_replies(here, feature_cache):
    text = printed(here, feature_cache, "replies.py", "--dialogues=500", "--new_dialogues=30", "--epochs=25")
    first, among_three, first_in_new, among_three_in_new = row(text, "LLMInterest")
    best = row(text, "the best possible")
    blind = row(text, "logistic regression on the last turn's text")
    assert first > 0.75
    assert among_three > 0.9
    assert first > blind[0] + 0.15  # it knows the dialogue, and not its last turn alone
    assert first_in_new > 0.3  # chance is .025
    assert among_three_in_new > row(text, "IDs alone, without turns that are not in training")[3]
    assert row(text, "LLMInterest, all replies reworded")[0] > 0.25
    assert best[0] < 1 == best[1]
    assert text.count("customer: ") >= 3


def test_truth_about_viewers(made):
    """Chances are probabilities, of what is there and not watched yet; the routine is what they say."""
    from video_site import ROUTINES, Site, visits

    random = np.random.default_rng(0)
    site = Site(random)
    for number, viewer in enumerate(visits(site, 30, 9, random)):
        chances = viewer.chances()
        assert chances.sum() == pytest.approx(1)
        assert chances.min() == 0 == chances[site.is_new].sum() == chances[viewer.watched].sum()
        of_routine = [site.topics.index(topic) for topic in ROUTINES[number % len(ROUTINES)][0]]
        assert 0.89 < chances[np.isin(site.topic, of_routine)].sum() < 0.91
        assert viewer.chances(among_new=True)[~site.is_new].sum() == 0
        clicks = viewer.click_chances()
        assert 0 < clicks.min() < clicks.max() < 0.5
        likeliest = np.bincount(site.topic, chances).argmax()
        assert [topic for _, topic in site.ads.values()][clicks.argmax()] == likeliest


def test_new_words_are_new(made):
    """No customer's turn of the dialogues in new words has ever been in training."""
    from service_desk import REPLIES, dialogue

    random = np.random.default_rng(0)
    heard, unheard = (
        {turn.text for _ in range(300) for turn in dialogue(random, is_new) if turn.reply is None}
        for is_new in (False, True)
    )
    assert not heard & unheard
    assert len({words for pair in REPLIES.values() for words in pair}) == 2 * len(REPLIES)


def test_a_mistake_is_one_line(made, here, capsys):
    import ads

    assert ads.main(["--viewers=20", "--viewer=3"]) == 2
    error = capsys.readouterr().err
    assert "'viewer'" in error
    assert error.count("\n") == 1
