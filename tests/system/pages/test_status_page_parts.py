"""The parts of the status page, with figures that a test makes up."""

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, expect

from tests.apps.hostile import MARKUP
from tests.support.browser import needs_chromium, screenshot
from tests.support.status_page import EDGE, busy, hide, opened
from tests.support.status_server import StatusServer, content

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


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


def test_a_hint_whose_figures_change_keeps_the_focus_on_its_button(page: Page, server: StatusServer) -> None:
    hint = page.locator("#hints li")
    server.content["hints"] = ["fast:8001 is silent for 4 s; see `make log`, and 4 more."]
    button = hint.get_by_role("button", name="copy make log")
    button.focus()
    server.content["hints"] = ["fast:8001 is silent for 5 s; see `make log`, and 5 more."]
    expect(hint).to_have_text("fast:8001 is silent for 5 s; see make logcopy, and 5 more.")
    expect(button).to_be_focused()
    server.content["hints"] = ["fast:8001 is silent for 6 s; see `make logs`, and 6 more."]
    hint.get_by_role("button", name="copy make logs", exact=True).click()
    assert page.evaluate("navigator.clipboard.readText()") == "make logs"


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


def test_what_nginx_answers_itself_is_a_hint(page: Page, server: StatusServer) -> None:
    well = page.get_by_text("Nothing: all is well.")
    server.content["hints"] = []
    expect(page.locator("#edge")).to_be_visible()
    expect(well).to_be_visible()
    server.edge = EDGE.replace("} 4", "} 5") + 'nginx_errors_total{pool="slow",status="504"} 2000\n'
    expect(page.locator("#hints li")).to_have_text(
        "nginx itself answered 1 request with 503, 2,000 requests with 504 in the last minute; its access "
        "log names them."
    )
    expect(well).to_be_hidden()
    expect(page).to_have_title("(1) slowpool status")
    server.edge = EDGE  # it has started anew
    expect(well).to_be_visible()
    expect(page).to_have_title("slowpool status")


def test_the_last_minute_of_nginx_begins_anew_after_hours_in_the_background(
    page: Page, server: StatusServer
) -> None:
    page.clock.install()
    page.reload()
    row = page.locator("#edge tbody tr").first
    expect(row).to_have_text("answered 50307")
    hide(page, True)
    server.edge = EDGE.replace("} 4", "} 9")
    page.clock.fast_forward("02:00:00")
    hide(page, False)
    expect(row).to_have_text("answered 503012")


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


def test_an_older_browser_and_one_whose_language_is_none_show_the_page(
    browser: Browser, server: StatusServer
) -> None:
    script = "delete Array.prototype.toSorted;"
    script += "Object.defineProperty(navigator, 'languages', { get: () => ['en-US@posix', 'de'] })"
    with opened(browser, server, script=script) as page:
        expect(page.locator("#accepted")).to_have_text("Accepted jobs: 1.400 done, 1 failed.")
        assert column(page, "routes", 1) == ["/reports/{}", "/fast", "/idle"]


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
