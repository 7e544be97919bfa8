"""The demo's page in a real browser, of the real system: slow and fast requests at once, and its links."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Locator, Page, Route, expect

from slowpool.config import Pool
from tests.support.basics import free_ports, wait_until
from tests.support.browser import needs_chromium, screenshot
from tests.support.demo_page import opened
from tests.support.process import Instance
from tests.support.system import System

pytestmark = [needs_chromium, pytest.mark.timeout(180)]

PLAIN = "One plain Tornado process"


@pytest.fixture
def page(browser: Browser, system: System) -> Iterator[Page]:
    with opened(browser, system) as page:
        lighten(page)
        yield page


def lighten(page: Page, size: int = 2000) -> None:
    """Have its requests take a tenth of their time, or that of another size."""

    def shorten(route: Route) -> None:
        route.continue_(url=route.request.url.replace("n=6000", f"n={size}"))

    page.route(re.compile("n=6000"), shorten)


def send(page: Page, choice: str) -> str:
    """Choose the slow requests, send all, and wait for the answers; returns what the page has observed."""
    page.get_by_role("radio", name=choice, exact=True).check()
    page.locator("#send").click()
    expect(page.locator("#send")).to_have_attribute("aria-disabled", "true")
    return wait_for_answers(page)


def wait_for_answers(page: Page) -> str:
    expect(page.locator("#send")).to_have_attribute("aria-disabled", "false", timeout=60_000)
    assert page.locator("#slow .answered").count() == 3, page.locator("#summary").inner_text()
    assert page.locator("#fast .answered").count() == 20
    expect(page.locator("#summary")).to_have_text(
        re.compile("^The last fast answer came after .*, the first slow one after .*, the last after")
    )
    return page.locator("#observed").inner_text()


def served_by(page: Page, pool: str) -> list[str]:
    """Who answered each request of a list."""
    return page.locator(f"#{pool} .by").all_inner_texts()


def ends(page: Page, pool: str) -> list[float]:
    """When the bars of a list end, in milliseconds."""
    bars = page.locator(f"#{pool} .row")
    return [
        float(end) for end in bars.evaluate_all("rows => rows.map(row => row.style.getPropertyValue('--to'))")
    ]


@pytest.mark.parametrize("choice", ["/slow_threaded", "/report", "/slow"])
def test_it_shows_which_instance_answered_each_request(page: Page, choice: str) -> None:
    observed = send(page, choice)
    slow = set(served_by(page, "slow"))
    assert {name.partition(":")[0] for name in slow} == {"slow"}
    assert {name.partition(":")[0] for name in served_by(page, "fast")} == {"fast"}
    assert set(re.findall(r"\w+:\d+", observed)) == slow
    assert page.locator("#slow-path").inner_text() == choice


def test_a_route_that_blocks_holds_up_fast_instances_until_they_have_learned_it(browser: Browser) -> None:
    with System(FAST_BLOCK_BUDGET_SECONDS=0.15) as system, opened(browser, system) as page:
        lighten(page, 3500)  # some 0.3 s
        assert re.match(r"Held up: fast:\d+.*\. Send again", send(page, "/stall"))
        screenshot(page, "start-stall")
        # Each fast instance learns by itself, when it gets one.
        learned = r"Handed over.* by slow:.*\. No fast instance was held up\."
        wait_until(lambda: re.fullmatch(learned, send(page, "/stall")))
        assert {name.partition(":")[0] for name in served_by(page, "slow")} == {"slow"}


def test_in_one_plain_process_the_fast_requests_wait_behind_the_slow_ones(page: Page) -> None:
    observed = send(page, PLAIN)
    (process,) = set(served_by(page, "slow")) | set(served_by(page, "fast"))
    assert re.fullmatch(r"pid \d+", process)
    assert process in observed
    assert min(ends(page, "fast")) > min(ends(page, "slow"))


def test_what_the_slow_pool_refuses_is_said_in_words(page: Page) -> None:
    problem = '{"title": "Service Unavailable", "detail": "the slow pool is full"}'
    page.route("**/plain?*", lambda route: route.fulfill(status=503, body=problem), times=1)
    page.get_by_role("radio", name=PLAIN).check()
    page.locator("#send").click()
    expect(page.locator("#summary")).to_have_text("503 Service Unavailable: the slow pool is full")
    expect(page.locator("#timeline")).to_be_hidden()
    send(page, PLAIN)


def test_requests_without_an_answer_are_shown_when_the_process_ends_early(page: Page) -> None:
    lines = [
        '{"pid": 7}',
        '{"path": "/slow", "id": 1, "at": 1.0}',
        '{"path": "/slow", "id": 1, "at": 9.0, "status": 200}',
        '{"path": "/fast", "id": 1, "at": 2.0}',
        '{"path": "/fast", "id": 2, "at": 2.5}',
        '{"path": "/fast", "id": 2, "at": 9.5, "status": 500}',
    ]
    page.route("**/plain?*", lambda route: route.fulfill(body="\n".join([*lines, ""])), times=1)
    page.get_by_role("radio", name=PLAIN).check()
    page.locator("#send").click()
    expect(page.locator("#summary")).to_have_text(re.compile(r"^22 of 23 requests failed\."))
    expect(page.locator("#fast .failed").first).to_contain_text("Network error")
    assert page.locator("#observed").inner_text() == ""


@pytest.mark.parametrize("choice", ["/slow_threaded", PLAIN])
def test_the_axis_ends_with_the_last_bar(browser: Browser, system: System, choice: str) -> None:
    with opened(browser, system, reduced_motion="reduce") as page:
        lighten(page)
        send(page, choice)
        last = page.locator("#timeline .row", has=page.locator(".bar")).nth(
            last_of(ends(page, "slow") + ends(page, "fast"))
        )
        bar, track = box(last.locator(".bar")), box(last.locator(".track"))
        assert abs(bar["x"] + bar["width"] - track["x"] - track["width"]) <= 2
        ticks = page.locator(".ticks span")
        assert 2 <= ticks.count() <= 5
        middles = [at["x"] + at["width"] / 2 for at in map(box, ticks.all()[1:])]
        assert track["x"] < middles[0]
        assert middles[-1] <= track["x"] + track["width"]


def test_it_works_with_the_keyboard_and_says_what_each_choice_does(page: Page) -> None:
    first = page.get_by_role("radio", name="/slow_threaded")
    first.focus()
    page.keyboard.press("ArrowDown")
    report = page.get_by_role("radio", name="/report", exact=True)
    expect(report).to_be_checked()
    expect(report).to_have_accessible_description(re.compile("hands the request over to the slow pool"))
    page.keyboard.press("Enter")
    expect(page.locator("#send")).to_have_attribute("aria-disabled", "true")
    assert "handed over" in wait_for_answers(page)
    expect(report).to_be_focused()


def test_its_port_and_its_links_are_those_of_the_running_system(page: Page, system: System) -> None:
    expect(page.locator("#port")).to_have_text(f":{system.port}")
    assert not re.search(r"\b808[01]\b", page.locator("main").text_content() or "")
    page.get_by_role("link", name="Your own application").click()
    expect(page.get_by_role("heading", name="Your own application")).to_be_in_viewport()
    page.get_by_role("link", name=f"http://localhost:{system.admin_port}/status").click()
    expect(page.get_by_text("● live")).to_be_visible()


def test_an_instance_without_nginx_says_that_it_is_alone_and_links_to_its_own_status_page(
    browser: Browser,
) -> None:
    port = free_ports()
    ports: dict[str, Any] = {"FAST_PORT": port, "SLOW_PORT": free_ports()}
    with (
        Instance(
            Pool.ALL, port=port, expected="blocked", FAST_PROCESSES=1, SLOW_PROCESSES=1, **ports
        ) as instance,
        opened(browser, instance) as page,
    ):
        lighten(page)
        for choice in ("/report", "/stall"):
            assert send(page, choice) == f"One process, all:{port}, is both pools and answered all requests."
        page.get_by_role("link", name="/-/status").click()
        expect(page.get_by_text("● live")).to_be_visible()


@pytest.mark.parametrize(
    ("host", "machine"), [("shop.example", "shop.example"), ("[2001:db8::1]", "2001:db8::1")]
)
def test_under_another_host_name_there_is_no_link_that_cannot_work(
    page: Page, system: System, host: str, machine: str
) -> None:
    def from_system(route: Route) -> None:
        url = route.request.url.replace(host, f"localhost:{system.port}")
        route.fulfill(response=route.fetch(url=url))

    page.route(re.compile(f"^http://{re.escape(host)}/"), from_system)
    page.goto(f"http://{host}/")
    port = system.admin_port
    expect(page.locator("#status code").first).to_have_text(f"ssh -N -L {port}:localhost:{port} {machine}")
    assert page.locator("#port").text_content() == ""
    assert page.locator("a[href*='/status']").count() == 0
    page.unroute_all(behavior="wait")  # its icon may still be on the way


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_it_has_no_barrier_and_fits_a_phone(browser: Browser, system: System, scheme: Any) -> None:
    for width in (1280, 360):
        size = {"width": width, "height": 800}
        with opened(browser, system, viewport=size, color_scheme=scheme, reduced_motion="reduce") as page:
            lighten(page)
            for choice, name in (("/report", "report"), (PLAIN, "plain")):
                send(page, choice)
                screenshot(page, f"start-{name}-{scheme}-{width}")
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                found = Axe().run(page)
                assert found.violations_count == 0, found.generate_report()
                assert box(page.locator("#slow .track").first)["width"] >= 0.4 * width


def box(locator: Locator) -> Any:
    """Where it is on the page, in pixels."""
    found = locator.bounding_box()
    assert found
    return found


def last_of(values: list[float]) -> int:
    """The index of the greatest."""
    return values.index(max(values))
