"""The demo's page in a real browser, of the real system: the three ways to get its report."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests.support.basics import wait_until
from tests.support.browser import needs_chromium, screenshot
from tests.support.client import request
from tests.support.demo_page import opened
from tests.support.system import System

pytestmark = [needs_chromium, pytest.mark.timeout(180)]

ASYNC = {"Prefer": "respond-async"}
A_TIME = r"[\d.]+\sm?s"


@pytest.fixture
def page(browser: Browser, system: System) -> Iterator[Page]:
    with opened(browser, system) as page:
        yield page


def ask(page: Page, way: str, rows: int) -> Locator:
    """Press the button of one way, for a report of so many rows; returns its part of the page."""
    page.get_by_label("Rows of the report").fill(str(rows))
    part = page.locator(f"#{way}")
    part.get_by_role("button").first.click()
    return part


def state(part: Locator) -> Locator:
    """The sentence that says how far it is."""
    return part.get_by_role("status")


def fraction(part: Locator) -> float:
    """How far the bar is; -1 while nobody knows."""
    return float(part.get_by_role("progressbar").evaluate("bar => bar.position"))


def record(part: Locator) -> None:
    """Note all that the bar of this part shows from now on."""
    part.get_by_role("progressbar").evaluate(
        "bar => { bar.seen = [];"
        "  new MutationObserver(() => bar.seen.push(bar.position)).observe(bar, { attributes: true }) }"
    )


def recorded(part: Locator) -> list[float]:
    seen: list[float] = part.get_by_role("progressbar").evaluate("bar => bar.seen")
    return seen


def job_of(page: Page) -> str:
    """The path of the job that the page has kept."""
    return str(wait_until(lambda: page.evaluate("localStorage.getItem('accepted-report')")))


def test_an_answered_report_is_shown_with_its_time(page: Page) -> None:
    part = ask(page, "answered", rows=3)
    expect(state(part)).to_have_text(re.compile(rf"^Answered after {A_TIME}\.$"))
    rows = re.compile(r"^row 1 of 3 .* s\nrow 2 of 3 .* s\nrow 3 of 3 .* s\s*$")
    expect(part.get_by_label("Answered rows")).to_have_text(rows)
    assert fraction(part) == 1


def test_a_streamed_report_is_shown_row_by_row(page: Page) -> None:
    part = page.locator("#streamed")
    record(part)
    ask(page, "streamed", rows=20)
    expect(state(part)).to_have_text(re.compile(rf"^First row after {A_TIME}, last after {A_TIME}\.$"))
    expect(part.get_by_label("Streamed rows")).to_contain_text("row 20 of 20")
    seen = [position for position in recorded(part) if position >= 0]
    assert seen == sorted(seen)
    assert seen[-1] == 1
    assert len({position for position in seen if 0 < position < 1}) > 1, "it came in one piece"


def test_an_accepted_report_shows_its_progress_and_then_its_answer(page: Page, system: System) -> None:
    part = page.locator("#accepted")
    record(part)
    ask(page, "accepted", rows=20)
    expect(state(part)).to_have_text(re.compile(rf"^Done, {A_TIME} after it was accepted\.$"))
    rows = part.get_by_label("Accepted rows")
    expect(rows).to_contain_text("row 20 of 20")
    assert any(0 < position < 1 for position in recorded(part))
    assert fraction(part) == 1
    assert rows.text_content() == system.get(f"{job_of(page)}/result").text


def test_a_report_that_waits_shows_its_place_in_the_queue_and_can_be_cancelled(
    page: Page, system: System
) -> None:
    more = 4 + (os.cpu_count() or 1)  # than there are workers
    before = [system.get("/report/rows?rows=100", headers=ASYNC).headers["Location"] for _ in range(more)]
    part = ask(page, "accepted", rows=1)
    expect(state(part)).to_have_text(re.compile(r"^Waiting, \d+ before it"))
    job = job_of(page)
    part.get_by_role("button", name="Cancel").click()
    expect(state(part)).to_have_text("Cancelled.")
    assert json.loads(system.get(job).body)["state"] == "cancelled"
    for other in before:
        assert system.get(other, "DELETE").status == 204
    expect(part.get_by_role("button", name="Cancel")).to_have_attribute("aria-disabled", "true")
    ask(page, "accepted", rows=1)
    expect(state(part)).to_have_text(re.compile("^Done"))


def test_a_report_that_runs_can_be_cancelled(page: Page, system: System) -> None:
    part = ask(page, "accepted", rows=100)
    wait_until(lambda: fraction(part) > 0)
    part.get_by_role("button", name="Cancel").click()
    expect(state(part)).to_have_text("Cancelled.")
    assert json.loads(system.get(job_of(page)).body)["state"] == "cancelled"
    wait_until(lambda: running(system) == [])


def test_the_bar_of_an_accepted_report_survives_a_reload_of_the_page(page: Page) -> None:
    part = ask(page, "accepted", rows=40)
    wait_until(lambda: fraction(part) > 0)
    job, reached = job_of(page), fraction(part)
    page.reload()
    wait_until(lambda: fraction(part) >= reached)
    expect(state(part)).to_have_text(re.compile("^Done"))
    expect(part.get_by_label("Accepted rows")).to_contain_text("row 40 of 40")
    assert job_of(page) == job


def test_an_accepted_report_survives_a_kill_of_the_instance_that_runs_it(browser: Browser) -> None:
    with System(JOB_LEASE_SECONDS=2) as system, opened(browser, system) as page:
        part = ask(page, "accepted", rows=40)
        wait_until(lambda: fraction(part) > 0)
        job = job_of(page)
        (port,) = running(system)
        os.kill(system.pid_of("slow", port), signal.SIGKILL)
        assert json.loads(system.get(job).body)["state"] == "running"  # in vain
        record(part)
        expect(state(part)).to_have_text(re.compile("^Done"), timeout=120_000)
        assert min(recorded(part)) <= 0, "it did not run again"
        expect(part.get_by_label("Accepted rows")).to_contain_text("row 40 of 40")
        assert job_of(page) == job


def test_the_page_forgets_a_report_that_is_not_kept_any_more(page: Page) -> None:
    page.evaluate(f"localStorage.setItem('accepted-report', '/slow/jobs/{32 * '0'}')")
    page.reload()
    part = page.locator("#accepted")
    expect(state(part)).to_have_text(re.compile("^404 Not Found"))
    expect(part.get_by_role("button").first).to_have_attribute("aria-disabled", "false")
    page.reload()
    expect(state(part)).to_have_text("Not asked for yet.")


@pytest.mark.parametrize("way", ["answered", "streamed", "accepted"])
def test_an_error_is_shown_in_words(page: Page, way: str) -> None:
    part = ask(page, way, rows=0)
    expect(state(part)).to_have_text("400 Bad Request: rows must be an integer from 1 to 100")
    page.context.set_offline(True)
    part.get_by_role("button").first.click()
    expect(state(part)).to_have_text(re.compile("^Network error"))
    page.context.set_offline(False)
    ask(page, way, rows=1)
    expect(state(part)).to_have_text(re.compile("^(Answered|First row|Done)"))


def test_a_second_try_after_a_lost_answer_gets_the_same_job_and_a_third_another_one(page: Page) -> None:
    accepted: list[str] = []

    def lose(route: Route) -> None:
        accepted.append(route.fetch().headers["location"])
        route.abort()

    page.route("**/report/rows*", lose, times=1)
    part = ask(page, "accepted", rows=2)
    expect(state(part)).to_have_text(re.compile("^Network error"))
    for _ in range(2):
        ask(page, "accepted", rows=2)
        expect(part.get_by_label("Accepted rows")).to_be_visible()
        accepted.append(job_of(page))
    lost, second, third = accepted
    assert lost == second != third


def test_the_page_looks_again_when_the_events_of_a_job_cannot_be_had(page: Page) -> None:
    page.route("**/events", lambda route: route.fulfill(status=503), times=1)
    part = ask(page, "accepted", rows=2)
    expect(state(part)).to_have_text(re.compile("^No connection"))
    expect(state(part)).to_have_text(re.compile("^Done"))


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_it_has_no_barrier_and_fits_a_phone(browser: Browser, system: System, scheme: Any) -> None:
    for width in (1280, 360):
        size = {"width": width, "height": 800}
        with opened(browser, system, viewport=size, color_scheme=scheme) as page:
            for way in ("answered", "streamed"):
                expect(state(ask(page, way, rows=12))).to_have_text(re.compile(r"after .*\sm?s\."))
            part = ask(page, "accepted", rows=100)
            wait_until(lambda: fraction(part) > 0)  # noqa: B023  # waits here
            screenshot(page, f"demo-{scheme}-{width}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            part.get_by_role("button", name="Cancel").click()
            expect(state(part)).to_have_text("Cancelled.")


def running(system: System) -> list[int]:
    """The ports of the slow instances that run a job."""
    lines = {port: request(port, "/-/metrics").text.splitlines() for port in system.instances("slow")}
    return [port for port, metrics in lines.items() if "slow_jobs_running 0.0" not in metrics]
