"""The service's page in a real browser: by mouse, by keyboard, on a phone, with titles in any script."""

from __future__ import annotations

import shutil
import socket
import threading
import time

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from conftest import SUBJECTS
from playwright.sync_api import expect, sync_playwright

from recbole_llm_interest.recommender import Recommender
from recbole_llm_interest.serving.api_keys import ApiKeys
from recbole_llm_interest.serving.app import create_app
from recbole_llm_interest.serving.options import ServeOptions
from recbole_llm_interest.serving.service import Service
from recbole_llm_interest.serving.stores import open_store

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed"),
]
KEY = "0123456789abcdef0123456789"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def browser():
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def address(shop):
    """Starts services in threads, and gives the address of each."""
    servers = []

    def start(keys=None):
        checkpoint, places = shop()
        recommender = Recommender.load(checkpoint, **places)
        for item, title in {"chinese": "关于鲸鱼的电影", "arabic": "فيلم عن الحيتان", "hostile": HOSTILE}.items():
            recommender.add_item(item, {"title": title})
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        app = create_app(Service(recommender, open_store("memory")), ServeOptions(str(checkpoint)), keys)
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run)
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    start.end = lambda: [(setattr(server, "should_exit", True), thread.join()) for server, thread in servers]
    yield start
    start.end()


@pytest.fixture
def page(browser):
    """Opens pages, and checks at the end that none said anything, opened a dialog, or left the machine."""
    said = []

    def open_page(url, width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        opened = context.new_page()
        opened.on("console", lambda message: said.append(message.text))
        opened.on("pageerror", lambda error: said.append(str(error)))
        opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        opened.on("request", lambda sent: None if sent.url.startswith((url, "data:")) else said.append(sent.url))
        opened.goto(url)
        return opened

    open_page.said = said
    yield open_page
    assert said == []


def titles(page):
    return page.locator("#list .item span:nth-child(2)").all_inner_texts()


def choose(page, text):
    page.get_by_label("Find items by title").fill(text)
    page.locator("#found button").first.click()


def test_each_click_moves_the_list(page, address):
    shown = page(address())
    expect(shown.locator("#model")).to_have_text("Data set cycle, 11 items")
    expect(shown.locator("#list li")).to_have_count(10)
    before = titles(shown)
    choose(shown, "WHALES")
    expect(shown.locator("#chosen li")).to_have_count(1)
    expect(shown.locator("#count")).to_have_text("The list follows from 1 event.")
    assert titles(shown) != before
    assert shown.locator("#list .small", has_text="up").count() > 0
    following = f"A film about {SUBJECTS[SUBJECTS.index('whales') + 1]}"
    shown.get_by_role("button", name=following).first.click()
    expect(shown.locator("#chosen li")).to_have_count(2)
    expect(shown.locator("#chosen li").last).to_contain_text(following)
    shown.get_by_role("button", name=f"Remove {following}").click()
    expect(shown.locator("#chosen li")).to_have_count(1)
    shown.get_by_role("button", name="Start again").click()
    expect(shown.locator("#chosen li")).to_have_count(0)
    expect(shown.locator("#count")).to_have_text("The list follows from 0 events.")
    assert titles(shown) == before


def test_a_user_with_interests_and_reasons(page, address):
    shown = page(address())
    shown.get_by_label("User id").fill("u1")
    shown.get_by_role("button", name="Show").click()
    expect(shown.locator("#count")).to_have_text("The list follows from 9 events.")
    shares = shown.locator("#interests .small").all_inner_texts()
    weights = [float(share.removesuffix("%")) for share in shares]
    assert 90 <= sum(weights) <= 110
    best = titles(shown)[0]
    shown.get_by_role("button", name=f"Why {best}?").click()
    expect(shown.locator("#why-item")).to_contain_text(f"{best} has a score of ")
    points = [float(text) for text in shown.locator("#of-item td:last-child").all_inner_texts()]
    score = float(shown.locator("#why-item").inner_text().rpartition(" ")[2].rstrip("."))
    assert sum(points) == pytest.approx(score, abs=0.05)
    assert shown.locator("#of-user tr").count() == 9


def test_by_keyboard_alone(page, address):
    shown = page(address())
    expect(shown.locator("#list li")).to_have_count(10)
    shown.get_by_label("Find items by title").focus()
    shown.keyboard.type("bread")
    expect(shown.locator("#found li")).to_have_count(1)
    shown.keyboard.press("Tab")
    shown.keyboard.press("Enter")
    expect(shown.locator("#chosen li")).to_have_count(1)
    shown.locator("#list button").first.focus()
    chosen = titles(shown)[0]
    shown.keyboard.press("Enter")
    expect(shown.locator("#chosen li")).to_have_count(2)
    expect(shown.locator("#chosen li").last).to_contain_text(chosen)
    assert shown.evaluate("document.activeElement.closest('#list') !== null"), "the focus stays in the list"
    shown.keyboard.press("Tab")
    shown.keyboard.press("Enter")
    expect(shown.locator("#why")).to_be_focused()


def test_titles_in_any_script_and_of_any_intent(page, address):
    shown = page(address())
    for text, title in (("鲸鱼", "关于鲸鱼的电影"), ("الحيتان", "فيلم عن الحيتان"), ("onerror", HOSTILE)):
        choose(shown, text)
        expect(shown.locator("#chosen li").last).to_contain_text(title)
    assert shown.locator("main img").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_and_for_everybody(page, address, scheme):
    shown = page(address(), width=360, color_scheme=scheme, reduced_motion="reduce")
    choose(shown, "bread")
    shown.get_by_role("button", name="Why").first.click()
    expect(shown.locator("#why")).to_be_visible()
    assert shown.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(shown)
    assert found.violations_count == 0, found.generate_report()


def test_a_service_with_keys_asks_for_one(page, address):
    shown = page(address(ApiKeys.of_lines([f"web {KEY} read"])))
    expect(shown.get_by_role("alert")).to_have_text("send a key of this service: Authorization: Bearer KEY")
    shown.get_by_label("Key of this service").fill("wrong")
    shown.get_by_role("button", name="Use").click()
    expect(shown.get_by_role("alert")).to_be_visible()
    shown.get_by_label("Key of this service").fill(KEY)
    shown.get_by_role("button", name="Use").click()
    expect(shown.locator("#list li")).to_have_count(10)
    expect(shown.locator("#key")).to_be_hidden()
    expect(shown.get_by_role("alert")).to_be_hidden()
    assert all("401" in one for one in page.said), "which the browser notes"
    page.said.clear()


def test_a_service_that_has_ended_is_said(page, address):
    shown = page(address())
    choose(shown, "bread")
    expect(shown.locator("#chosen li")).to_have_count(1)
    address.end()
    shown.locator("#list .item").first.click()
    expect(shown.get_by_role("alert")).to_contain_text("The service does not answer.")
    expect(shown.locator("#chosen li")).to_have_count(1)
    page.said.clear()  # the browser notes it, too
