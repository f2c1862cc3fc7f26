"""The page of a service, in a real browser: lists follow clicks and keys, and titles are only ever text."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import REPOSITORY
from playwright.sync_api import expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")]

CHINESE = "卧虎藏龙 一部关于江湖的电影"
HOSTILE = "<img src=x onerror=alert(1)>"
ADDED = {"zh": CHINESE, "bad": HOSTILE}
KEY = "0123456789abcdef0123456789abcdef"
#: how long a service may take to load its model, s
PATIENCE = 120


def ask(url, body=None, key=KEY):
    """What the service answers to a client that is no browser."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    with urlopen(Request(url, data, headers), timeout=30) as response:
        return json.load(response)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


@contextmanager
def serving(shop, port, *words):
    """A service that runs, as a process of its own."""
    checkpoint, places = shop()
    settings = [f"--{name}={value}" for name, value in places.items()]
    command = [sys.executable, "-m", "recbole_llm_interest.cli.serve", f"--checkpoint={checkpoint}", "--store=memory"]
    process = subprocess.Popen([*command, f"--port={port}", "--quiet", *words, *settings], cwd=REPOSITORY)
    try:
        wait_until_ready(process, port)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_until_ready(process, port):
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        assert process.poll() is None, "the service has ended"
        try:
            ask(f"http://127.0.0.1:{port}/ready")
        except URLError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("the service has not started")


@pytest.fixture(scope="module")
def url(shop):
    """A service whose items have Chinese and hostile titles, too."""
    with serving(shop, free_port()) as address:
        added = [{"item": item, "content": {"title": title}} for item, title in ADDED.items()]
        assert ask(f"{address}items", {"items": added}) == {"count": len(ADDED)}
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])


@pytest.fixture
def opened(browser):
    """Opens the page; at the end nothing was said on the console, asked of another host, or shown as a dialog.

    What the browser itself says there of a request that is refused does not count: some tests expect it.
    """
    told, asked, contexts = [], [], []

    def open_page(address, width=1280, is_refused=False, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("dialog", lambda dialog: (told.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: told.append(str(error)))
        page.on("request", lambda request: asked.append((address, request.url)))
        page.on("console", lambda message: told.append(message.text))
        page.goto(address)
        if not is_refused:
            expect(page.locator("#list li").first).to_be_visible()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [text for text in told if not text.startswith("Failed to load resource")] == []
    assert [url for address, url in asked if not url.startswith((address, "data:"))] == []


def titles(page):
    return page.locator("#list .choose").all_inner_texts()


def chosen(page):
    return page.locator("#chosen .title").all_inner_texts()


def preview(url, *items, **more):
    return ask(f"{url}previews", {"items": items, "k": 10, **more})


def add_by_search(page, text):
    page.get_by_role("combobox").fill(text)
    page.get_by_role("option").first.click()


# --- lists


def test_the_list_is_the_services(url, opened):
    page = opened(url)
    first = preview(url)
    expect(page.locator("#list li")).to_have_count(10)
    assert titles(page) == [one["title"] for one in first["items"]]
    assert page.locator("#list .score").all_inner_texts() == [
        f"{one['score']:.2f}".replace("-", "\u2212") for one in first["items"]
    ]
    assert set(page.locator("#list .move").all_inner_texts()) == {""}
    expect(page.locator("#model")).to_have_text("Data set cycle · 10 items")
    expect(page.get_by_text("Nothing is stored")).to_be_visible()
    expect(page.locator("#basis")).to_have_text("For somebody new, of whom no event is known")


def test_a_click_adds_an_event_and_the_list_moves(url, opened):
    page = opened(url)
    before = preview(url)["items"]
    after = preview(url, before[2]["item"])["items"]
    page.locator("#list .choose").nth(2).click()
    expect(page.locator("#basis")).to_have_text("For somebody new, after 1 event tried here")
    assert chosen(page) == [before[2]["title"]]
    assert titles(page) == [one["title"] for one in after] != [one["title"] for one in before]
    assert page.locator("#list .move").all_inner_texts() == movements(before, after)
    page.get_by_role("button", name="Start again").click()
    expect(page.locator("#basis")).to_have_text("For somebody new, of whom no event is known")
    assert titles(page) == [one["title"] for one in before]
    assert page.locator("#list .move").all_inner_texts() == movements(after, before)


def movements(before, after):
    """How each item of a list has moved against the former one, in words."""
    ranks = [one["item"] for one in before]
    places = [ranks.index(one["item"]) - rank for rank, one in enumerate(after)]
    return ["" if place == 0 else f"up {place}" if place > 0 else f"down {-place}" for place in places]


def test_items_that_were_not_in_the_former_list_are_new(url, opened):
    page = opened(url)
    page.get_by_label("Leave out earlier items").check()
    page.locator("#list .choose").first.click()
    expect(page.locator("#list li")).to_have_count(9)
    left = titles(page)
    assert chosen(page)[0] not in left
    page.get_by_role("button", name="Start again").click()
    expect(page.locator("#list li")).to_have_count(10)
    words = dict(zip(titles(page), page.locator("#list .move").all_inner_texts(), strict=True))
    assert [title for title, word in words.items() if word == "new"] == list(set(words) - set(left))


def test_events_of_a_user_count_before_those_that_are_tried(url, opened):
    page = opened(url)
    known = ask(f"{url}users/u3/recommendations")
    page.get_by_label("User id").fill("u3")
    page.keyboard.press("Enter")
    expect(page.locator("#basis")).to_have_text(f"For u3, after {known['events']} known events")
    assert titles(page) == [one["title"] for one in known["items"]]
    page.locator("#list .choose").first.click()
    expect(page.locator("#basis")).to_have_text(f"For u3, after {known['events']} known events and 1 event tried here")
    assert ask(f"{url}users/u3/recommendations") == known  # nothing was stored


def test_only_the_latest_answer_is_shown(url, opened):
    page = opened(url)
    held = []
    page.route("**/previews", lambda route: route.continue_() if held else held.append(route))
    page.locator("#list .choose").nth(1).click()
    expect(page.locator("#chosen li")).to_have_count(1)
    page.locator("#list .choose").nth(1).click()
    expect(page.locator("#basis")).to_contain_text("after 2 events")
    held[0].continue_()
    page.wait_for_timeout(300)
    expect(page.locator("#basis")).to_contain_text("after 2 events")


# --- interests and why


def test_interests_are_bars_of_their_weights(url, opened):
    page = opened(url)
    item = preview(url)["items"][0]["item"]
    page.locator("#list .choose").first.click()
    expect(page.locator("#basis")).to_contain_text("after 1 event")
    found = preview(url, item)["interests"]
    rows = page.locator("#interests li")
    shown = [rows.nth(place).locator(".line .title").inner_text() for place in range(len(found))]
    assert shown == [one["name"] for one in found]
    page.wait_for_timeout(500)  # bars grow
    for place, one in enumerate(found):
        percent = round(100 * one["weight"])
        assert rows.nth(place).locator(".percent").inner_text() == (f"{percent}%" if percent else "under 1%")
        track, bar = (rows.nth(place).locator(name).bounding_box()["width"] for name in (".track", ".bar"))
        assert bar / track == pytest.approx(one["weight"], abs=0.01)


def test_why_has_the_parts_of_the_score(url, opened):
    page = opened(url)
    add_by_search(page, "whales")
    add_by_search(page, "bread")
    expect(page.locator("#basis")).to_contain_text("after 2 events")
    item = preview(url, "i1", "i2")["items"][1]
    before = page.locator("#list .move").all_inner_texts()
    page.get_by_role("button", name=f"Why {item['title']}").click()
    panel = page.locator(".explanation:visible")
    expect(panel.get_by_role("heading")).to_have_text(f"Why its score is {item['score']:.2f}")
    explained = preview(url, "i1", "i2", explain=item["item"])["explanation"]
    points = [part["points"] for name in ("of_item", "of_user") for part in explained[name]]
    assert panel.locator("td").all_inner_texts() == [
        f"{one:+.2f}".replace("-", "\u2212") for one in points if abs(one) >= 0.005
    ]
    assert {"A film about whales", "A film about bread"} <= set(panel.locator("th .title").all_inner_texts())
    assert page.locator("#list .move").all_inner_texts() == before
    page.get_by_role("button", name=f"Why {item['title']}").click()
    expect(page.locator(".explanation:visible")).to_have_count(0)


# --- for everybody


def test_keys_do_what_clicks_do(url, opened):
    page = opened(url)
    expect(page.locator("#list li")).to_have_count(10)
    press_until(page, "Tab", "#search")
    page.keyboard.type("whales")
    page.keyboard.press("Enter")
    expect(page.locator("#chosen .title")).to_have_text(["A film about whales"])
    expect(page.locator("#basis")).to_contain_text("after 1 event")
    press_until(page, "Tab", "#list .choose")
    title = page.locator("#list .choose").first.inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#chosen .title")).to_have_text(["A film about whales", title])
    expect(page.locator("#basis")).to_contain_text("after 2 events")
    assert page.evaluate("document.activeElement.innerText") == title  # wherever it has moved to
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    expect(page.locator(".explanation:visible")).to_be_visible()
    press_until(page, "Shift+Tab", "#chosen button")
    page.keyboard.press("Enter")
    expect(page.locator("#chosen .title")).to_have_text(["A film about whales"])
    page.keyboard.press("Enter")
    expect(page.locator("#chosen .title")).to_have_count(0)
    expect(page.locator("#search")).to_be_focused()


def press_until(page, key, selector):
    """Press a key until an element has the focus, which has to be seen."""
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    raise AssertionError(f"{key} does not reach {selector}")


def test_arrows_choose_among_the_titles_found(url, opened):
    page = opened(url)
    field = page.get_by_role("combobox")
    field.fill("film about")
    options = page.get_by_role("option")
    expect(options).to_have_count(8)
    names = options.all_inner_texts()
    for key, place in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1)):
        page.keyboard.press(key)
        expect(page.get_by_role("option", selected=True)).to_have_text(names[place])
        assert field.get_attribute("aria-activedescendant") == options.nth(place).get_attribute("id")
    page.keyboard.press("Enter")
    expect(page.locator("#chosen .title")).to_have_text([names[1]])
    field.fill("zebras")
    expect(page.get_by_text("No title has “zebras”")).to_be_visible()


@pytest.mark.parametrize("width", [1280, 360])
def test_titles_of_all_scripts_are_only_text(url, opened, width):
    page = opened(url, width)
    add_by_search(page, "江湖")
    add_by_search(page, "onerror")
    expect(page.locator("#chosen .title")).to_have_text([CHINESE, HOSTILE])
    expect(page.locator("#basis")).to_contain_text("after 2 events")
    assert {CHINESE, HOSTILE} <= set(titles(page))
    page.get_by_role("button", name=f"Why {CHINESE}").click()
    panel = page.locator(".explanation:visible")
    expect(panel.get_by_text(CHINESE)).to_be_visible()
    expect(panel.get_by_text(HOSTILE)).to_be_visible()
    expect(page.locator("#list").get_by_text(CHINESE, exact=True).first).to_be_visible()
    assert page.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(url, opened, monkeypatch, width, scheme):
    monkeypatch.syspath_prepend(str(REPOSITORY / "benchmarks"))
    from accessibility import RULES

    page = opened(url, width, color_scheme=scheme, bypass_csp=True)  # axe is a script that the page would refuse
    add_by_search(page, "江湖")
    page.locator("#list .choose").nth(3).click()
    page.locator("#list .why").first.click()
    expect(page.locator(".explanation:visible")).to_be_visible()
    page.get_by_role("combobox").fill("film")
    expect(page.get_by_role("option")).to_have_count(8)
    page.wait_for_timeout(400)  # rows stand still
    found = Axe().run(page, options={"runOnly": RULES}).response
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
    assert len(found["passes"]) > 25


COUNT_MOVES = """() => {
  const animate = Element.prototype.animate;
  window.moved = 0;
  Element.prototype.animate = function (...given) { window.moved += 1; return animate.apply(this, given); };
}"""


@pytest.mark.parametrize(("motion", "moves"), [("reduce", False), ("no-preference", True)])
def test_rows_move_unless_the_reader_wants_calm(url, opened, motion, moves):
    page = opened(url, reduced_motion=motion)
    expect(page.locator("#list li")).to_have_count(10)
    page.evaluate(COUNT_MOVES)
    page.locator("#list .choose").nth(2).click()
    expect(page.locator("#basis")).to_contain_text("after 1 event")
    assert (page.evaluate("window.moved") > 0) == moves


# --- a service that refuses, or has stopped


def test_a_service_with_keys_asks_for_one(shop, opened, tmp_path):
    (tmp_path / "keys").write_text(f"reader {KEY} read\n")
    with serving(shop, free_port(), f"--api_keys={tmp_path / 'keys'}") as address:
        page = opened(address, is_refused=True)
        message, field = page.get_by_role("alert"), page.get_by_label("API key")
        expect(message).to_have_text("This service needs a key.")
        for key in ("a-key-that-nobody-has", "schlüssel"):
            field.fill(key)
            page.keyboard.press("Enter")
            expect(message).to_have_text("The service refuses this key.")
            assert titles(page) == []
        field.fill(KEY)
        page.get_by_role("button", name="Use key").click()
        expect(page.locator("#list li")).to_have_count(8)
        expect(message).to_have_text("")
        assert page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [1, 0, ""]
        assert KEY not in page.url
        page.reload()
        expect(page.locator("#list li")).to_have_count(8)


def test_what_was_entered_outlives_the_service(shop, opened):
    port = free_port()
    with serving(shop, port) as address:
        page = opened(address)
        page.get_by_label("User id").fill("u3")
        add_by_search(page, "whales")
        expect(page.locator("#basis")).to_contain_text("1 event tried here")
    page.locator("#list .choose").first.click()
    expect(page.get_by_role("alert")).to_have_text("The service does not answer. What you have entered is kept.")
    expect(page.locator("#chosen li")).to_have_count(2)
    expect(page.get_by_label("User id")).to_have_value("u3")
    with serving(shop, port):
        page.get_by_role("button", name="Try again").click()
        expect(page.locator("#basis")).to_contain_text("2 events tried here")
        expect(page.get_by_role("alert")).to_have_text("")


def test_what_the_service_refuses_is_one_line(url, opened):
    page = opened(url)
    add_by_search(page, "whales")
    expect(page.locator("#basis")).to_contain_text("after 1 event")
    page.get_by_label("User id").fill("u" * 9000)
    page.keyboard.press("Enter")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The service refuses this: ")
    assert "\n" not in alert.inner_text()
    page.get_by_label("User id").fill("")
    page.keyboard.press("Enter")
    expect(alert).to_have_text("")
