"""What the figures of a state show: names, shares and the order of events; not where they are drawn."""

from __future__ import annotations

import subprocess
import sys

import pytest
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties, findfont
from matplotlib.ft2font import FT2Font

from recbole_llm_interest import plot_history, plot_interests
from recbole_llm_interest.errors import RequestError
from recbole_llm_interest.io.fonts import font_advice, use_fonts_for
from recbole_llm_interest.recommender import Interest
from recbole_llm_interest.report.plots import draw_live_interests


@pytest.fixture
def recommender(recommender_names):
    return recommender_names()["recommender"]


def texts(labels):
    return [" ".join(label.get_text().split()) for label in labels]


def test_interests_are_the_recommenders_and_the_rest_is_one_bar(recommender):
    state = recommender.start("u1")
    known = recommender.interests(state)
    (axes,) = plot_interests(recommender, state, k=2).axes
    assert texts(axes.get_yticklabels()) == [*(one.name for one in known[:2]), "all others"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx([known[0].weight, known[1].weight, 1 - known[0].weight - known[1].weight])
    (axes,) = plot_interests(recommender, state, k=len(known)).axes
    assert texts(axes.get_yticklabels()) == [one.name for one in known]


def test_bars_say_the_probability_and_the_share_that_carries_the_name():
    interests = [Interest("Sci-Fi", 0.625, ("Alien",), share=0.94), Interest("Alien / Solaris", 0.375, ("Alien",))]
    (axes,) = draw_live_interests(interests, 9.5).axes
    assert texts(axes.texts) == ["62.5% (94% of its items carry the name)", "37.5%"]


def test_history_is_in_order_and_the_last_events_are_shown(recommender):
    state = recommender.start("u1", history=["i3", "i1", "i2", "i1"])
    areas, events = plot_history(recommender, state, events=3).axes
    assert texts(events.get_xticklabels()) == [
        "A film about space 2", "A film about whales 3", "A film about space 4",
    ]  # fmt: skip
    assert len(events.get_yticklabels()) == len(recommender.interest_map.names)
    assert [line.get_xdata()[0] for line in events.lines] == [2, 3, 4]
    lines = [line.get_ydata()[0] for line in events.lines]
    assert lines[0] == lines[2]  # the same item
    assert areas.get_xlim() == (1.5, 4.5)


def test_history_of_a_new_user_is_followed_from_the_users_own_start(recommender):
    """The states before and after each event are those that ``start`` and ``update`` give, times included."""
    state = recommender.start(history=["i1", "i2"], at=["2024-05-01", "2024-05-03"])
    before, after = recommender.replay(state, events=1)
    assert before.interest.tolist() == recommender.start(history=["i1"], at=["2024-05-01"]).interest.tolist()
    assert after.interest[0].tolist() == pytest.approx(state.interest[0].tolist(), abs=1e-6)
    _, events = plot_history(recommender, state).axes
    assert "01 May 2024 to 03 May 2024" in events.get_xlabel()


def test_chinese_titles_have_a_font(recommender, caplog):
    """Each letter is in a font that the text is given, or a warning names it as lacking one."""
    recommender.items.labels.update({"i1": "千与千寻", "i2": "卧虎藏龙"})
    figure = plot_history(recommender, recommender.start("u1", history=["i1", "i2"]))
    labels = figure.axes[1].get_xticklabels()
    assert texts(labels) == ["千与千寻 1", "卧虎藏龙 2"]
    absent = use_fonts_for(figure)
    assert caplog.messages == font_advice(absent)
    if not absent:
        fonts = {findfont(FontProperties(family=[family])) for family in labels[0].get_fontfamily()}
        assert {"千", "虎"} <= set().union(*(map(chr, FT2Font(font).get_charmap()) for font in fonts))


def test_letters_without_a_font_are_named_by_a_warning(recommender, caplog, monkeypatch):
    own = [font for font in font_manager.fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    recommender.items.labels["i1"] = "千与千寻"
    plot_history(recommender, recommender.start("u1", history=["i1"]))
    (warning,) = caplog.messages
    assert warning.startswith("no font for 3 letters (such as ")


def test_notebook_gets_a_picture_and_nothing_is_shown(recommender, tmp_path):
    figure = plot_interests(recommender, recommender.start("u1"))
    assert figure._repr_png_().startswith(b"\x89PNG")
    figure.savefig(tmp_path / "interests.svg")
    assert (tmp_path / "interests.svg").stat().st_size


@pytest.mark.parametrize("draw", [plot_interests, plot_history])
def test_state_of_several_users_is_an_error(recommender, draw):
    with pytest.raises(RequestError, match=r"the state is of 2 users: give one of them, such as state\[0\]"):
        draw(recommender, recommender.start(["u1", "u2"]))


@pytest.mark.parametrize("draw", [plot_interests, plot_history])
@pytest.mark.parametrize("user", ["u1", 196])
def test_id_for_a_state_is_an_error(recommender, draw, user):
    with pytest.raises(RequestError, match=f"takes a state, not {user!r}: start"):
        draw(recommender, user)


def test_nothing_to_draw_is_an_error(recommender):
    with pytest.raises(RequestError, match="no events"):
        plot_history(recommender, recommender.start(history=[]))
    with pytest.raises(RequestError, match="events=0"):
        plot_history(recommender, recommender.start("u1"), events=0)
    with pytest.raises(RequestError, match="k=0"):
        plot_interests(recommender, recommender.start("u1"), k=0)


@pytest.mark.slow
def test_top_level_names_are_there_and_import_nothing_before_they_are_used():
    program = (
        "import sys, recbole_llm_interest as package\n"
        "assert not {'torch', 'matplotlib'} & set(sys.modules)\n"
        "assert {'plot_interests', 'plot_history'} <= set(dir(package))\n"
        "assert callable(package.plot_interests)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
