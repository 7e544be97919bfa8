"""The parts of the status page, with figures that a test makes up, and what can be done from it."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

from tests.apps.hostile import MARKUP
from tests.support.browser import needs_chromium, screenshot
from tests.support.status_server import StatusServer, content, instance, pool, running

pytestmark = [needs_chromium, pytest.mark.timeout(120)]

EDGE = """\
# HELP nginx_errors_total Errors that nginx has answered itself; 499: the client had gone.
# TYPE nginx_errors_total counter
nginx_errors_total{status="503"} 3
nginx_errors_total{pool="fast",status="503"} 4
nginx_errors_total{status="499"} 0
nginx_errors_total{status="421"} 0
nginx_second_tries_total{pool="fast"} 12
nginx_hand_overs_total 2048
"""


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with StatusServer() as server:
        server.content = busy()
        server.edge = EDGE
        yield server


@pytest.fixture
def page(browser: Browser, server: StatusServer) -> Iterator[Page]:
    with opened(browser, server) as page:
        yield page


@contextmanager
def opened(browser: Browser, server: StatusServer, width: int = 1280, **options: Any) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = context.new_page()
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        asked = ("/status/act", "/status/stack")  # the browser notes each of their answers that is an error
        if message.type == "error" and urlsplit(message.location["url"]).path not in asked:
            complaints.append(message.text)

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", note)
    page.goto(server.url)
    expect(page.locator("#connection")).to_have_text("● live")
    yield page
    context.close()
    assert not complaints


def busy() -> dict[str, Any]:
    """Figures with something in every part of the page."""
    at = time.time()
    job = {"task": "shop.pdf.draw", "route": "/reports/{}", "request_id": "0123456789abcdef0123456789abcdef"}
    slow = instance("slow", 8101, waiting=1, state="draining", lost_seconds=12.0)
    slow["running"] = [
        running(),
        running(job="01", age_seconds=0.4, progress=None, message="", accepted=True),
    ]
    slow["waiting_jobs"] = [{**job, "job": "02", "age_seconds": 3.5, "place": 1}]
    figures = {"p50_seconds": 0.001, "queue_seconds": None, "run_seconds": None, "handed_over": 0}
    return content(
        hints=[
            "The slow pool is full: 380 requests were refused in the last minute. Scale it with "
            "`docker compose up -d --scale slow=2`; `SLOW_QUEUE=16` lets more of them wait.",
            "fast:8002 sends an odd ` sign.",
        ],
        pools={
            "fast": pool(active=3),
            "slow": pool(
                running=2, workers=2, waiting=1, places=16, refused=380, accepted={"done": 1400, "failed": 1}
            ),
        },
        instances=[instance("fast", 8001), instance("fast", 8002), slow, instance("slow", 8102)],
        routes=[
            {
                **figures,
                "route": "/fast",
                "pool": "fast",
                "requests": 6000,
                "errors": 0,
                "p99_seconds": 0.002,
            },
            {
                **figures,
                "route": "/reports/{}",
                "pool": "slow",
                "requests": 60,
                "errors": 2,
                "p99_seconds": 11.0,
                "queue_seconds": 1.5,
                "run_seconds": 3.0,
                "handed_over": 58,
            },
            {**figures, "route": "/idle", "pool": "fast", "requests": 1, "errors": 0, "p99_seconds": None},
        ],
        failures=[
            {
                **job,
                "job": "03",
                "ended": at - 5,
                "outcome": "failed",
                "error": f"ValueError: no page 7 {MARKUP}",
            },
            {
                **job,
                "job": "04",
                "ended": at - 90_000,
                "outcome": "timeout",
                "error": "it was at shop/pdf.py:27",
            },
        ],
        events=[
            {
                "id": "b",
                "at": at - 1,
                "kind": "hang",
                "instance": "fast:8002",
                "text": "killed by the watchdog",
            },
            {"id": "a", "at": at - 60, "kind": "ready", "instance": "fast:8002", "text": "is ready"},
        ],
    )


def column(page: Page, table: str, number: int) -> list[str]:
    return page.locator(f"#{table} tbody tr > :nth-child({number})").all_inner_texts()


def header(page: Page, name: str) -> Locator:
    return page.locator("#routes").get_by_role("columnheader", name=name, exact=True)


def test_commands_in_the_advice_are_code_that_can_be_copied(page: Page) -> None:
    hint = page.locator("#hints li").first
    commands = ["docker compose up -d --scale slow=2", "SLOW_QUEUE=16"]
    expect(hint.locator("code")).to_have_text(commands)
    hint.get_by_role("button", name=f"copy {commands[0]}").click()
    expect(page.locator("#said")).to_have_text(f"{commands[0]} copied")
    assert page.evaluate("navigator.clipboard.readText()") == commands[0]
    expect(page.locator("#hints li").nth(1)).to_have_text("fast:8002 sends an odd ` sign.")


def test_a_page_without_a_clipboard_copies_too(page: Page) -> None:
    page.evaluate("delete Navigator.prototype.clipboard")
    button = page.get_by_role("button", name="copy SLOW_QUEUE=16")
    button.click()
    expect(button).to_have_text("copied")
    expect(button).to_be_focused()


def test_routes_are_sorted_by_any_column_the_slowest_first_and_stay_so(
    page: Page, server: StatusServer
) -> None:
    routes = ["/reports/{}", "/fast", "/idle"]
    assert column(page, "routes", 1) == routes
    expect(header(page, "p99")).to_have_attribute("aria-sort", "descending")
    screenshot(page, "parts")
    header(page, "p99").get_by_role("button").click()
    expect(header(page, "p99")).to_have_attribute("aria-sort", "ascending")
    assert column(page, "routes", 1) == ["/fast", "/reports/{}", "/idle"], "an unknown value comes last"
    header(page, "route").get_by_role("button").press("Enter")
    expect(header(page, "route")).to_have_attribute("aria-sort", "ascending")
    assert header(page, "p99").get_attribute("aria-sort") is None
    assert column(page, "routes", 1) == sorted(routes)
    server.content["routes"][0]["requests"] = 12_000
    expect(page.locator("#routes tbody tr").first).to_contain_text("200")
    assert column(page, "routes", 1) == sorted(routes)
    expect(header(page, "route").get_by_role("button")).to_be_focused()


def test_what_is_not_sent_again_stays(page: Page, server: StatusServer) -> None:
    for name in ("routes", "failures", "events"):
        del server.content[name]
    server.content["served_by"] = "fast:8002"
    expect(page.locator("#served")).to_have_text("from fast:8002")
    for name, count in {"routes tbody tr": 3, "failed tbody tr": 2, "events li": 2}.items():
        expect(page.locator(f"#{name}")).to_have_count(count)


def test_an_instance_of_an_older_release_sends_less_and_is_shown(
    browser: Browser, server: StatusServer
) -> None:
    server.content = content(failed_jobs=[{"job": "x", "route": "/a", "ended": time.time(), "error": "why"}])
    del server.content["served_by"]
    server.edge = ""
    with opened(browser, server) as page:
        expect(page.locator("#failed tbody tr")).to_contain_text("why")
        for hidden in ("routes-section", "events-section", "edge-section", "jobs", "waiting"):
            expect(page.locator(f"#{hidden}")).to_be_hidden()
        expect(page.get_by_text("None.")).to_be_visible()


def test_a_running_job_shows_its_age_against_its_deadline_and_what_its_worker_uses(page: Page) -> None:
    job = page.locator("#jobs tbody tr").first
    for text in ("shop.pdf.draw", "40 % · page 2", "6 s of 24 s", "5.5 s", "180 MiB", "4711", "slow:8101"):
        expect(job).to_contain_text(text)
    bar = "cell => getComputedStyle(cell).getPropertyValue('--done')"
    assert [job.locator(f"td:nth-child({place})").evaluate(bar) for place in (3, 4)] == ["40%", "25%"]
    expect(page.locator("#jobs tbody tr").nth(1)).to_contain_text("shop.pdf.draw · accepted")
    waiting = page.locator("#waiting tbody tr")
    expect(waiting).to_contain_text("3.5 s")
    expect(page.locator("#accepted")).to_have_text("Accepted jobs: 1,400 done, 1 failed.")


def test_failed_jobs_show_the_last_line_of_their_traceback_and_the_request_id(page: Page) -> None:
    first, second = page.locator("#failed tbody tr").all()
    expect(first).to_contain_text(f"ValueError: no page 7 {MARKUP}")
    assert page.locator("main img").count() == 0
    expect(second).to_contain_text("timeout")
    first.get_by_role("button", name="copy the request id").click()
    assert page.evaluate("navigator.clipboard.readText()") == "0123456789abcdef0123456789abcdef"


def test_events_are_shown_with_time_and_cause_and_one_more_comes_on_top(
    page: Page, server: StatusServer
) -> None:
    expect(page.locator("#events li").first).to_have_text(
        re.compile(r"^\d\d:\d\d:\d\d✕ hangfast:8002killed by the watchdog$")
    )
    server.content["events"] = [
        {"id": "c", "at": time.time(), "kind": "act", "instance": "fast:8001", "text": "cancelled by admin"}
    ]
    expect(page.locator("#events li")).to_have_count(3)
    expect(page.locator("#events li").first).to_contain_text("cancelled by admin")


def test_the_counters_of_nginx_are_shown_with_those_of_the_last_minute(
    page: Page, server: StatusServer
) -> None:
    row = page.locator("#edge tbody tr")
    expect(row).to_have_text(
        ["answered 50307", "answered 42100", "second tries, fast012", "hand overs02,048"]
    )
    server.edge = EDGE.replace('fast",status="503"} 4', 'fast",status="503"} 9')
    expect(row.first).to_have_text("answered 503512")
    expect(row.first).to_have_class("bad")
    server.edge = EDGE.replace("2048", "1")
    expect(row.first).to_have_text("answered 50307")


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


def test_numbers_and_dates_are_in_the_browsers_language_on_a_24_hour_clock(
    browser: Browser, server: StatusServer
) -> None:
    with opened(browser, server, locale="de-DE") as page:
        expect(page.locator("#accepted")).to_have_text("Accepted jobs: 1.400 done, 1 failed.")
        expect(page.locator("#waiting tbody tr")).to_contain_text("3,5 s")
        expect(page.locator("#failed tbody tr").nth(1)).to_contain_text(
            re.compile(r"\d\d\.\d\d\.,? \d\d:\d\d:\d\d")
        )
    with opened(browser, server, locale="en-US") as page:
        assert not re.search(r"\b[ap]m\b", page.locator("main").inner_text(), re.IGNORECASE)


@pytest.mark.parametrize("width", [360, 768, 1024, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.long)])
def test_cards_are_equal_without_an_orphan_at_any_width(
    browser: Browser, server: StatusServer, width: int, scheme: Any
) -> None:
    with opened(browser, server, width, color_scheme=scheme) as page:
        expect(page.locator("#edge")).to_be_visible()
        screenshot(page, f"parts-{scheme}-{width}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for cards in ("figure", "#fast dl div", "#slow dl div", ".pools > section"):
            rows = by_row(page.locator(cards))
            assert len({len(row) for row in rows}) == 1, f"{cards}: {rows}"
            assert len({round(card["width"]) for row in rows for card in row}) == 1
        assert len({round(box["height"]) for row in by_row(page.locator("figure")) for box in row}) == 1
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()


def by_row(cards: Locator) -> list[list[dict[str, float]]]:
    """The boxes of elements, by the line on which they are."""
    boxes: list[dict[str, float]] = cards.evaluate_all(
        "cards => cards.map(card => card.getBoundingClientRect().toJSON())"
    )
    return [[box for box in boxes if box["y"] == y] for y in sorted({box["y"] for box in boxes})]


def test_on_a_phone_the_advice_and_the_running_jobs_come_first(
    browser: Browser, server: StatusServer
) -> None:
    ids = "sections => sections.map(section => section.id)"
    with opened(browser, server, 360) as page:
        assert page.locator("main > section").evaluate_all(ids)[:2] == ["advice", "jobs-section"]
        page.set_viewport_size({"width": 1280, "height": 900})
        expect(page.locator("main > section").nth(1)).to_have_class("pools")
        header(page, "p50").get_by_role("button").click()
    with opened(browser, server, 360) as page:
        header(page, "p50").get_by_role("button").click()
        expect(header(page, "p50")).to_have_attribute("aria-sort", "descending")
