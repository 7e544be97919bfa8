"""What an operator does from the status page: each action is asked again, and shows its answer."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.apps.hostile import MARKUP
from tests.support.basics import wait_until
from tests.support.browser import needs_chromium, screenshot
from tests.support.status_page import busy, opened
from tests.support.status_server import StatusServer

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with StatusServer() as server:
        server.content = busy()
        yield server


@pytest.fixture
def page(browser: Browser, server: StatusServer) -> Iterator[Page]:
    with opened(browser, server) as page:
        yield page


@pytest.mark.parametrize(
    ("button", "verb", "body"),
    [
        (
            "cancel shop.pdf.draw, job 00c0ffee00c0ffee",
            "Cancel the job",
            {"action": "cancel", "job": "00c0ffee00c0ffee"},
        ),
        (
            "drain and restart fast:8001 at 10.0.0.2",
            "Drain and restart it",
            {"action": "restart", "instance": "fast:8001", "address": "10.0.0.2"},
        ),
        ("roll the slow pool", "Roll it", {"action": "roll", "pool": "slow"}),
    ],
)
def test_an_action_is_asked_again_and_shows_its_answer(
    page: Page, server: StatusServer, button: str, verb: str, body: dict[str, str]
) -> None:
    opener = page.get_by_role("button", name=button)
    opener.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="No, leave it")).to_be_focused()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    assert server.acts == []

    opener.press("Enter")
    page.keyboard.press("Tab")
    expect(dialog.get_by_role("button", name=verb)).to_be_focused()
    screenshot(page, f"act-{body['action']}")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("status")).to_have_text("It drains now.")
    assert server.acts == [body]
    expect(dialog.get_by_role("button")).to_have_text(["Close"])
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        ((409, {"detail": "slow:8101 drains already; wait"}), "✕ slow:8101 drains already; wait"),
        ((404, {"title": "Not Found"}), "✕ 404 Not Found"),
        ((502, {}), "✕ 502 Bad Gateway"),
    ],
)
def test_a_refused_action_says_why(
    page: Page, server: StatusServer, answer: tuple[int, Any], shown: str
) -> None:
    server.act_answer = answer
    page.get_by_role("button", name="roll the fast pool").click()
    page.get_by_role("button", name="Roll it").click()
    expect(page.get_by_role("dialog").get_by_role("status")).to_have_text(shown)


def test_the_focus_goes_to_the_instances_when_the_row_that_was_acted_on_has_gone(
    page: Page, server: StatusServer
) -> None:
    page.get_by_role("button", name="cancel shop.pdf.draw, job 00c0ffee00c0ffee").click()
    server.content["instances"][2]["running"] = []
    expect(page.locator("#jobs")).to_be_hidden()
    page.get_by_role("button", name="Cancel the job").click()
    page.get_by_role("button", name="Close").click()
    expect(page.locator("#instances")).to_be_focused()


def test_the_stack_of_a_job_is_shown_again_and_copied(page: Page, server: StatusServer) -> None:
    frames = ["shop/pdf.py:27 in draw", f"shop/pdf.py:9 in {MARKUP}"]
    stack = {"seconds": 6.2, "worker": 4711, "stack": frames, "complete": True}
    server.stack_answer = (200, stack)
    opener = page.get_by_role("button", name="stack of shop.pdf.draw, job 00c0ffee00c0ffee")
    opener.press("Enter")
    dialog = page.get_by_role("dialog", name="Stack of shop.pdf.draw")
    shown = page.locator("#stack-frames")
    expect(shown).to_have_text("\n".join(frames))
    expect(dialog.get_by_role("status")).to_have_text(
        re.compile(r"^At \d\d:\d\d:\d\d, after 6\.2 s, in worker 4711; the innermost first\.$")
    )
    screenshot(page, "stack")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    dialog.get_by_role("button", name="copy the stack").click()
    assert page.evaluate("navigator.clipboard.readText()") == "\n".join(frames)
    server.stack_answer = (200, {**stack, "stack": frames[:1], "complete": False})
    dialog.get_by_role("button", name="Again").click()
    expect(shown).to_have_text(frames[0])
    expect(dialog.get_by_role("status")).to_contain_text("Not all of it")
    server.stack_answer = (404, {"detail": "the job has just ended"})
    dialog.get_by_role("button", name="Again").click()
    expect(dialog.get_by_role("status")).to_have_text("✕ the job has just ended")
    expect(shown).to_have_text(frames[0])
    page.keyboard.press("Escape")
    expect(opener).to_be_focused()


def test_an_open_dialog_keeps_the_focus_while_the_figures_are_old_and_acts_only_afterwards(
    page: Page, server: StatusServer
) -> None:
    page.get_by_role("button", name="roll the fast pool").click()
    verb = page.get_by_role("button", name="Roll it")
    verb.focus()
    server.hang("silent")
    expect(page.locator("body")).to_have_attribute("data-state", "old")
    expect(verb).to_be_focused()
    expect(verb).to_be_disabled()
    page.keyboard.press("Enter")
    server.hangs = ""
    expect(page.locator("body")).to_have_attribute("data-state", "live")
    assert server.acts == []
    expect(verb).to_be_focused()
    page.keyboard.press("Enter")
    wait_until(lambda: server.acts == [{"action": "roll", "pool": "fast"}])


def test_the_focus_on_a_button_stays_when_the_job_above_it_ends(page: Page, server: StatusServer) -> None:
    second = page.get_by_role("button", name="cancel shop.pdf.draw, job 01")
    second.focus()
    del server.content["instances"][2]["running"][0]
    expect(page.locator("#jobs tbody tr")).to_have_count(1)
    expect(second).to_be_focused()


@pytest.mark.parametrize(
    ("job", "effect"),
    [
        ("00c0ffee00c0ffee", "ends at once, .* A client that waits for the answer gets an error"),
        ("01", "ends at once, .* Its client then finds it cancelled"),
        ("02", "leaves the queue and does not run. A client that waits"),
    ],
)
def test_the_question_says_what_becomes_of_the_job_and_of_its_client(
    page: Page, job: str, effect: str
) -> None:
    page.get_by_role("button", name=f"cancel shop.pdf.draw, job {job}", exact=True).click()
    expect(page.locator("#act-effect")).to_have_text(re.compile(f"^Job {job} of .* {effect}"))
