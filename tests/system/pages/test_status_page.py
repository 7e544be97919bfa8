"""The status page, in a real browser, of a real system under load; and the same in the terminal."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.support.basics import ROOT, wait_until
from tests.support.browser import WATCH_STATES, needs_chromium, screenshot
from tests.support.client import refuses, request
from tests.support.system import System

pytestmark = [needs_chromium, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def watched() -> Iterator[System]:
    with System(APP="tests.apps.watched:make_app", SLOW_QUEUE=1, SLOW_PER_CLIENT=0) as system:
        yield system


@pytest.fixture
def page(browser: Browser, watched: System) -> Iterator[Page]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://localhost:{watched.admin_port}/status")
    expect(page.locator("#connection")).to_have_text("● live")
    yield page
    page.close()
    assert not complaints


def figure(page: Page, pool: str, name: str) -> str:
    """A figure of a pool, as the page shows it."""
    return page.locator(f"#{pool} dl div", has=page.get_by_text(name, exact=True)).locator("dd").inner_text()


def row(page: Page, name: str) -> Any:
    return page.locator("#instances").get_by_role("row").filter(has=page.get_by_role("rowheader", name=name))


def test_it_shows_both_pools_every_instance_and_that_all_is_well(page: Page, watched: System) -> None:
    for pool in ("fast", "slow"):
        assert figure(page, pool, "answering") == "2 of 2"
        for port in watched.instances(pool):
            expect(row(page, f"{pool}:{port}")).to_contain_text("● ready")
            expect(row(page, f"{pool}:{port}")).to_contain_text("127.0.0.1")
            expect(row(page, f"{pool}:{port}")).to_contain_text("MiB")
    expect(page.get_by_text("Nothing: all is well.")).to_be_visible()
    screenshot(page, "idle")


def test_values_change_under_load_and_a_full_pool_says_how_to_scale_it(page: Page, watched: System) -> None:
    with load(watched):
        expect(page.locator("#jobs tbody tr")).to_have_count(2)
        expect(page.locator("#jobs tbody tr").first).to_contain_text("/slow/task/{}")
        wait_until(lambda: figure(page, "slow", "waiting") == "2 of 2")
        wait_until(lambda: float(figure(page, "fast", "requests/s")) > 1)
        wait_until(lambda: figure(page, "fast", "p99") != "–")
        wait_until(lambda: int(figure(page, "slow", "refused")) > 0)
        hint = page.locator("#hints li", has_text="The slow pool is full")
        expect(hint).to_contain_text("SLOW_WORKERS=2 ./deploy/local")
        for plot, now in {"Slow jobs": "running [1-9]", "Requests per second": "fast [1-9]"}.items():
            shown = page.get_by_role("slider", name=plot)
            expect(shown).to_have_attribute("aria-valuetext", re.compile(f"^now: {now}"))
        screenshot(page, "load")
    expect(page.locator("#jobs tbody tr")).to_have_count(0)


def test_an_instance_that_is_killed_turns_red_and_is_seen_to_come_back(page: Page, watched: System) -> None:
    (port,) = set(watched.instances("fast")) - {serving(watched)}
    os.kill(watched.pid_of("fast", port), signal.SIGKILL)
    killed = row(page, f"fast:{port}")
    expect(killed).to_have_class(re.compile(r"\bbad\b"))
    screenshot(page, "killed")
    expect(killed).to_contain_text("✕ ready, died")
    expect(
        page.locator("#hints li", has_text=f"fast:{port} at 127.0.0.1 died and was restarted")
    ).to_be_visible()


def test_one_that_does_not_answer_is_shown_as_such(page: Page, watched: System) -> None:
    port = watched.instances("slow")[1]
    pid = watched.pid_of("slow", port)
    os.kill(pid, signal.SIGSTOP)
    try:
        expect(row(page, f"slow:{port}")).to_contain_text("✕ no answer")
        assert figure(page, "slow", "answering") == "1 of 2"
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(row(page, f"slow:{port}")).to_contain_text("● ready")


def test_the_page_finds_another_instance_when_its_own_dies(page: Page, watched: System) -> None:
    page.evaluate(WATCH_STATES)
    port = serving(watched)
    os.kill(watched.pid_of("fast", port), signal.SIGKILL)
    wait_until(lambda: page.evaluate("states.includes('connecting')"))
    expect(page.locator("#connection")).to_have_text("● live")
    expect(row(page, f"fast:{port}")).to_contain_text("✕ ready, died")


def test_the_page_finds_another_instance_when_its_own_hangs(page: Page, watched: System) -> None:
    port = serving(watched)
    pid = watched.pid_of("fast", port)
    page.evaluate(WATCH_STATES)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until(lambda: page.evaluate("states.includes('old')"))
        expect(page.locator("#connection")).to_have_text("● live")
        expect(row(page, f"fast:{port}")).to_contain_text("✕ no answer")
    finally:
        with contextlib.suppress(ProcessLookupError):  # killed by the watchdog
            os.kill(pid, signal.SIGCONT)
    expect(row(page, f"fast:{port}")).to_contain_text("ready")


def test_a_route_that_blocks_its_instance_is_named_with_its_line_and_what_to_write(
    page: Page, watched: System
) -> None:
    assert watched.get("/stall/tea?seconds=0.7").pool == "fast"
    hint = page.locator("#hints li", has_text="/stall/{name} blocked its fast instance")
    expect(hint).to_contain_text(
        re.compile(r"at tests/apps/watched\.py:\d+, in build_report\. It goes to the slow pool")
    )
    expect(hint).to_contain_text("await slowpool.run(function, ...)")
    line = json.loads(watched.wait_for_output("/stall/{name} blocked its instance"))
    assert "the guilty line" in line["message"]
    assert (line["level"], line["route"]) == ("WARNING", "/stall/{name}")


def test_every_page_is_served_by_the_same_instance(watched: System) -> None:
    assert len({request(watched.admin_port, "/status").headers["X-Served-By"] for _ in range(10)}) == 1


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.long), "dark"])
def test_it_has_no_barrier_and_fits_a_phone(browser: Browser, watched: System, scheme: Any) -> None:
    for width in (1280, 360):
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        with contextlib.closing(page), load(watched):
            page.goto(f"http://localhost:{watched.admin_port}/status")
            expect(page.locator("#jobs tbody tr")).to_have_count(2)
            expect(page.locator("#hints li").first).to_be_visible()
            screenshot(page, f"{scheme}-{width}")
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            found = Axe().run(page)
            assert found.violations_count == 0, found.generate_report()
            expect(row(page, f"slow:{watched.instances('slow')[0]}")).to_be_visible()


def test_it_is_worked_by_the_keyboard(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the instances")).to_be_focused()
    page.keyboard.press("Tab")
    pause = page.get_by_role("button", name="Pause")
    expect(pause).to_be_focused()
    page.keyboard.press("Space")
    expect(page.locator("#connection")).to_have_text(re.compile(r"^paused, \d+ s old$"))
    expect(page.get_by_role("button", name="Resume")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Space")
    expect(page.locator("#connection")).to_have_text("● live")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#instances")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="drain and restart fast").first).to_be_focused()


@pytest.mark.parametrize(
    "path",
    [
        "/-/status",
        "/-/status/",
        "/-/status/live",
        "/-/status/instance",
        "/-/status/static/status.js",
        "/-/metrics",
        "/-/livez",
        "/-/readyz",
        "/-/",
        "/%2D/metrics",
        "/-%2Fmetrics",
        "//-/metrics",
        "/-//metrics",
        "/x/../-/metrics",
        "/x/%2e%2e/-/status/instance",
        "/slow/../-/metrics",
    ],
)
def test_nothing_of_it_is_reachable_through_the_public_port(watched: System, path: str) -> None:
    response = watched.get(path)
    assert response.status == 404
    assert response.pool == "", "nginx has passed it on"
    assert response.problem()
    assert "slow_jobs" not in response.text


@pytest.mark.parametrize(
    "path", ["/status", "/status/live", "/status/nginx", "/metrics", "/livez", "/readyz"]
)
def test_the_paths_of_the_admin_port_are_the_applications_on_the_public_one(
    watched: System, path: str
) -> None:
    response = watched.get(path)
    assert (response.status, response.pool) == (404, "fast")
    assert "<title>404: Not Found</title>" in response.text


def test_the_admin_port_listens_on_this_machine_alone(watched: System) -> None:
    assert request(watched.admin_port, "/status").status == 200
    assert refuses(watched.admin_port, "127.0.0.2")


def test_a_websocket_of_another_site_is_refused(watched: System) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    elsewhere = {**upgrade, "Origin": "http://evil.example"}
    assert request(watched.admin_port, "/status/live", headers=elsewhere).status == 403


def test_the_terminal_shows_the_same(watched: System) -> None:
    table = status(watched)
    assert table.returncode == 0, table.stdout + table.stderr
    assert re.search(r"^fast pool +2 of 2 answer", table.stdout, re.MULTILINE)
    for pool in ("fast", "slow"):
        for port in watched.instances(pool):
            assert re.search(rf"^{pool}:{port} +127\.0\.0\.1 +ready", table.stdout, re.MULTILINE)
    content = json.loads(status(watched, "--json").stdout)
    assert content["pools"]["slow"]["answering"] == 2
    assert len(content["instances"]) == 4


def test_the_terminal_fails_when_an_instance_does_not_answer(watched: System) -> None:
    pid = watched.pid_of("slow", watched.instances("slow")[0])
    os.kill(pid, signal.SIGSTOP)
    try:
        table = status(watched)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert table.returncode == 1
    assert "has not answered" in table.stdout


def test_the_terminal_watches_until_it_is_told_to_stop(watched: System) -> None:
    command = [sys.executable, "-m", "slowpool", "status", "--json", "--watch"]

    def as_in_a_terminal() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # who runs the tests in the background ignores it

    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=watched.env,
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=as_in_a_terminal,
    ) as process:
        assert process.stdout
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
        assert first["time"] < second["time"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0


def serving(system: System) -> int:
    """The port of the instance that serves the page."""
    return int(request(system.admin_port, "/status").headers["X-Served-By"].rpartition(":")[2])


def status(system: System, *options: str) -> subprocess.CompletedProcess[str]:
    """``python -m slowpool status``."""
    command = [sys.executable, "-m", "slowpool", "status", *options]
    return subprocess.run(command, cwd=ROOT, env=system.env, capture_output=True, text=True, timeout=30)


@contextlib.contextmanager
def load(system: System) -> Iterator[None]:
    """Fast requests, and more slow ones than may wait, until left."""
    stopped = False

    def ask(path: str) -> None:
        while not stopped:
            if system.get(path).status == 503:
                time.sleep(0.2)

    with ThreadPoolExecutor(8) as executor:
        paths = ["/report/tea"] * 2 + ["/slow/task/sleep?seconds=2"] * 6
        asking = [executor.submit(ask, path) for path in paths]
        try:
            yield
        finally:
            stopped = True
            for one in asking:
                one.result()
