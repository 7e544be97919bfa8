"""How old the figures of the status page are: it never says that it is live when it is not."""

import datetime
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.basics import wait_until
from tests.support.browser import WATCH_STATES, needs_chromium, screenshot
from tests.support.status_page import hide
from tests.support.status_server import StatusServer, content, running, steps

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


@pytest.fixture
def server() -> Iterator[StatusServer]:
    with StatusServer() as server:
        yield server


@pytest.fixture
def page(browser: Browser, server: StatusServer) -> Iterator[Page]:
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(server.url)
    expect(page.locator("#connection")).to_have_text("● live")
    yield page
    page.close()
    assert not complaints


@pytest.fixture
def slow_motion(page: Page) -> Page:
    """The page, whose time goes on only when the test says so."""
    page.clock.install()
    page.reload()
    expect(page.locator("#connection")).to_have_text("● live")
    page.clock.pause_at(datetime.datetime.now() + datetime.timedelta(seconds=1))
    page.get_by_role("button", name="Pause").click()  # the clock has jumped: begin anew
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#connection")).to_have_text("● live")
    return page


def state(page: Page) -> str | None:
    return page.locator("body").get_attribute("data-state")


def states(page: Page) -> list[str]:
    seen: list[str] = page.evaluate("states")
    return seen


def test_it_says_by_which_instance_it_is_served(page: Page) -> None:
    expect(page.locator("#served")).to_have_text("from fast:8001 at 10.0.0.2")


@pytest.mark.parametrize("how", ["silent", "frozen"])
def test_figures_that_stand_still_are_old_after_two_seconds_and_another_instance_is_asked(
    slow_motion: Page, server: StatusServer, how: str
) -> None:
    page = slow_motion
    server.content["instances"][2]["running"] = [running()]
    cancel = page.get_by_role("button", name=re.compile("^cancel"))
    expect(cancel).to_be_enabled()
    server.hang(how)
    expect(page.locator("#served")).to_have_text("from the last")
    page.clock.run_for(1500)
    assert state(page) == "live"
    page.clock.run_for(1000)
    assert state(page) == "old"
    expect(page.locator("#connection")).to_have_text(re.compile(r"^✕ [23] s old, connecting again…$"))
    expect(page.locator("#no-figures")).to_be_visible()
    expect(page.get_by_text("Nothing: all is well.")).to_be_hidden()
    expect(page.locator("#announcement")).to_have_text("")
    expect(page).to_have_title("✕ old: slowpool status")
    expect(page.locator("#said")).to_have_text(re.compile("The figures are old"))
    expect(cancel).to_be_disabled()
    assert page.locator("header").evaluate("header => getComputedStyle(header).position") == "sticky"
    screenshot(page, f"old-{how}")
    page.clock.run_for(1000)
    wait_until(lambda: "1" in server.attempts)
    server.hangs = ""
    expect(page.locator("#connection")).to_have_text("● live")
    expect(page.locator("#said")).to_have_text("The figures are live again.")
    expect(cancel).to_be_enabled()


def test_figures_that_come_late_are_old_although_they_come_each_second(
    page: Page, server: StatusServer
) -> None:
    page.evaluate(WATCH_STATES)
    server.delay_seconds = 2.5
    wait_until(lambda: "old" in page.evaluate("states"))  # then it tries another connection


def test_a_handshake_without_an_answer_is_given_up_and_the_next_one_goes_elsewhere(
    page: Page, server: StatusServer
) -> None:
    server.holds = 1
    before = len(server.attempts)
    page.reload()
    expect(page.locator("#connection")).to_have_text("● live")
    assert server.attempts[before:][:2] == ["0", "1"]


def test_a_page_that_wakes_up_raises_no_alarm_and_does_not_claim_to_be_live(
    page: Page, server: StatusServer
) -> None:
    page.clock.install()
    page.reload()
    expect(page.locator("#connection")).to_have_text("● live")
    page.evaluate(WATCH_STATES)
    before = len(server.attempts)
    page.clock.fast_forward("08:00:00")
    wait_until(lambda: len(states(page)) >= 3)
    assert states(page)[:3] == ["live", "connecting", "live"]
    assert "old" not in states(page)
    assert len(server.attempts) == before + 1


def test_a_page_that_wakes_up_without_a_server_says_how_old_it_is(page: Page, server: StatusServer) -> None:
    page.clock.install()
    page.reload()
    expect(page.locator("#connection")).to_have_text("● live")
    page.evaluate(WATCH_STATES)
    server.hang("silent")
    expect(page.locator("#served")).to_have_text("from the last")
    page.clock.fast_forward("08:00:00")
    expect(page.locator("#connection")).to_have_text("✕ 8 h old, connecting again…")
    assert states(page) == ["live", "connecting", "old"]


def test_a_paused_page_is_not_live_and_goes_on_when_it_is_told_to(page: Page, server: StatusServer) -> None:
    server.content["instances"][2]["running"] = [running()]
    cancel = page.get_by_role("button", name=re.compile("^cancel"))
    expect(cancel).to_be_enabled()
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#connection")).to_have_text(re.compile(r"^paused, \d+ s old$"))
    expect(cancel).to_be_disabled()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#connection")).to_have_text("● live")


def test_a_paused_page_does_not_say_that_all_is_well(page: Page) -> None:
    well, announcement = page.get_by_text("Nothing: all is well."), page.locator("#announcement")
    expect(well).to_be_visible()
    expect(announcement).to_have_text("All is well.")
    page.get_by_role("button", name="Pause").click()
    for _ in range(2):
        expect(well).to_be_hidden()
        expect(announcement).to_have_text("")
        hide(page, True)
        hide(page, False)
    page.get_by_role("button", name="Resume").click()
    expect(well).to_be_visible()
    expect(announcement).to_have_text("All is well.")


def test_without_figures_nothing_is_said_of_jobs(page: Page, server: StatusServer) -> None:
    server.holds = 100
    page.reload()
    expect(page.locator("#connection")).to_have_text("✕ no figures yet, connecting again…")
    expect(page.locator("#no-jobs")).to_be_hidden()
    expect(page.get_by_text("Nothing: all is well.")).to_be_hidden()


def test_figures_that_the_page_cannot_show_are_old(page: Page, server: StatusServer) -> None:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    server.content["pools"] = None  # a later release may send something else
    expect(page.locator("body")).to_have_attribute("data-state", "old")
    expect(page.locator("#no-figures")).to_contain_text("this page cannot show them")
    assert len([text for text in complaints if "the figures cannot be shown" in text]) == 1
    server.content = content()
    expect(page.locator("#connection")).to_have_text("● live")


def test_a_page_without_its_plots_shows_the_rest_and_is_not_live(page: Page) -> None:
    page.route("**/uPlot.iife.min.js", lambda route: route.abort())
    page.reload()
    expect(page.locator("body")).to_have_attribute("data-state", "old")
    expect(page.locator("#instances tbody tr")).to_have_count(4)
    expect(page.locator("#no-jobs")).to_be_visible()


def second_instance(page: Page, server: StatusServer, up: str, **values: Any) -> Any:
    """Its row, once it shows how long it is up; then with these values."""
    server.content["instances"][1].update(values)
    row = page.locator("#instances tbody tr").nth(1)
    expect(row).to_contain_text(up)
    return row


def test_an_instance_has_died_when_its_process_is_another_one_whatever_its_clock_says(
    page: Page, server: StatusServer
) -> None:
    assert "ready, died" not in second_instance(page, server, "5 s", uptime_seconds=5.0).inner_text()
    died = second_instance(page, server, "6 s", uptime_seconds=6.0, process_id="f" * 16)
    expect(died).to_contain_text("✕ ready, died")


def test_an_instance_that_has_stopped_as_intended_has_not_died(page: Page, server: StatusServer) -> None:
    second_instance(page, server, "stopped", state="stopped", process_id=None)
    back = second_instance(page, server, "5 s", state="ready", uptime_seconds=5.0, process_id="f" * 16)
    assert "● ready" in back.inner_text()


def test_after_a_gap_another_process_is_not_taken_for_one_that_has_died(
    page: Page, server: StatusServer
) -> None:
    page.clock.install()
    page.reload()
    second_instance(page, server, "5 s", uptime_seconds=5.0)
    page.get_by_role("button", name="Pause").click()
    server.content["instances"][1].update(uptime_seconds=6.0, process_id="f" * 16)
    page.clock.fast_forward("00:11")
    page.get_by_role("button", name="Resume").click()
    back = second_instance(page, server, "6 s")
    assert "● ready" in back.inner_text()


def first_value(page: Page) -> str | None:
    """What the first step of the first plot has been."""
    plot = page.get_by_role("slider", name="Requests per second")
    plot.focus()
    plot.press("Home")
    return plot.get_attribute("aria-valuetext")


@pytest.mark.parametrize("what_it_knows", ["less", "nothing"])
def test_the_history_survives_a_server_that_knows_less_and_a_reload(
    page: Page, server: StatusServer, what_it_knows: str
) -> None:
    before = first_value(page)
    assert before
    assert "fast 20, slow 20" in before
    known = steps(60 if what_it_knows == "less" else 1, requests=5)
    server.content["steps"] = {"fast": known, "slow": known}
    server.content["served_by"] = "fast:8002 at 10.0.0.2"
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#served")).to_have_text("from fast:8002 at 10.0.0.2")
    assert first_value(page) == before
    page.reload()
    expect(page.locator("#connection")).to_have_text("● live")
    assert first_value(page) == before


def test_what_was_kept_for_a_reload_is_bounded_and_what_is_not_ours_is_ignored(page: Page) -> None:
    kept = "sessionStorage.getItem('slowpool steps')"
    page.reload()
    assert 0 < page.evaluate(f"{kept}.length") < 100_000
    for junk in ("{", "[1]", '[[["x", null]], 2]', "null"):
        page.add_init_script(f"sessionStorage.setItem('slowpool steps', {junk!r})")
        page.reload()
        expect(page.locator("#connection")).to_have_text("● live")
        assert "fast 20" in (first_value(page) or "")


def test_a_server_that_knows_more_of_a_step_is_believed(page: Page, server: StatusServer) -> None:
    known = steps(120, requests=500)
    server.content["steps"] = {"fast": known, "slow": known}
    wait_until(lambda: "fast 100, slow 100" in (first_value(page) or ""))


def test_a_tab_that_nobody_sees_is_not_drawn_and_is_up_to_date_when_it_is_seen(
    page: Page, server: StatusServer
) -> None:
    hide(page, True)
    server.content["hints"] = ["Look here."]
    expect(page).to_have_title("(1) slowpool status")
    assert page.locator("#hints li").count() == 0
    hide(page, False)
    expect(page.locator("#hints li")).to_have_text("Look here.")


def test_the_plots_show_points_from_the_first_step_and_the_axis_ends_with_what_there_is(
    browser: Browser, server: StatusServer
) -> None:
    young: dict[str, Any] = {pool: steps(2, requests=50) for pool in ("fast", "slow")}
    server.content = content(steps=young)
    page = browser.new_page()
    page.goto(server.url)
    expect(page.locator("#connection")).to_have_text("● live")
    expect(page.locator("#plots-title")).to_have_text("The last minute")
    plot = page.get_by_role("slider", name="Time to the answer, slow pool")
    low, high = (int(plot.get_attribute(f"aria-value{end}") or 0) for end in ("min", "max"))
    assert high - low <= 3 * 5
    screenshot(page, "young")
    server.content = content(
        steps={pool: steps(120) for pool in young}, instances=[], pools=content()["pools"]
    )
    expect(page.locator("#plots-title")).to_have_text("The last 10 min")
    page.close()


def test_the_values_under_the_mouse_are_shown_with_their_time(page: Page, server: StatusServer) -> None:
    figure = page.locator("figure").first
    expect(figure.locator(".legend")).to_have_text("fast 20slow 20")
    figure.locator(".u-over").hover()
    expect(figure.locator(".head")).to_have_text(re.compile(r"^Requests per second\d\d:\d\d:\d\d$"))
    other = page.locator("figure").nth(3).locator(".head")
    expect(other).to_have_text(re.compile(r"\d\d:\d\d:\d\d$"))
    page.mouse.move(0, 0)
    expect(other).not_to_have_text(re.compile(r"\d\d:\d\d:\d\d$"))
