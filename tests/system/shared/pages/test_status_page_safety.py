"""What a hostile client, instance or page elsewhere can do with the status page, in a real browser."""

import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from slowpool.config import Pool
from tests.apps.hostile import MARKUP
from tests.support.basics import free_ports
from tests.support.browser import needs_chromium
from tests.support.liars import ESCAPES, frame, job, said, served, web_socket
from tests.support.process import Instance
from tests.support.system import System

pytestmark = needs_chromium


@pytest.fixture
def answers_with_markup(background: ThreadPoolExecutor) -> Iterator[int]:
    """The port of something where an instance should be, which says no, in HTML."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(f"HTTP/1.1 500 {MARKUP}\r\nContent-Length: 0\r\n\r\n".encode())

        background.submit(answer)
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


def test_names_of_routes_request_ids_and_errors_are_shown_as_text(
    browser: Browser, answers_with_markup: int
) -> None:
    port = free_ports()
    settings: dict[str, Any] = {"FAST_PORT": port, "SLOW_PORT": answers_with_markup}
    settings |= {"FAST_PROCESSES": 1, "SLOW_PROCESSES": 1, "APP": "tests.apps.hostile:make_app"}
    with (
        Instance(Pool.ALL, port=port, expected="blocked", **settings) as instance,
        socket.create_connection(("127.0.0.1", port)) as client,
    ):
        client.sendall(f"GET /slow HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: id {MARKUP}\r\n\r\n".encode())
        instance.get("/block")
        page = browser.new_page()
        complaints = watch(page)
        page.goto(f"http://127.0.0.1:{port}/-/status")
        for shown in (f"/block{MARKUP}", f"/slow{MARKUP}", f"id {MARKUP}", f"500: {MARKUP}"):
            expect(page.get_by_text(shown).first).to_be_visible()
        assert page.locator("main img").count() == 0
        assert "owned" not in page.title()
        assert not complaints
        page.close()


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (said(active="x"), "(active: Input should be a valid integer)"),
        (said(state=ESCAPES), "(state: String should match"),
        (said(steps={"1": {"latency": {"1000000": 1}}}), "sends an unreadable report"),
        ([], "sends an unreadable report"),
        (job(route=f"/{ESCAPES}{MARKUP}", request_id="\u202egpj.exe"), "\\u202egpj.exe"),
    ],
)
def test_one_that_lies_is_shown_beside_the_figures_of_the_others(
    browser: Browser, answer: object, shown: str
) -> None:
    port = free_ports(2)
    settings: dict[str, Any] = {"FAST_PORT": port, "FAST_PROCESSES": 2, "SLOW_PORT": free_ports()}
    lie = web_socket(*[frame(json.dumps(answer).encode())] * 60)
    with Instance(Pool.ALL, port=port, **settings) as instance, served(lie, port + 1):
        page = browser.new_page()
        complaints = watch(page)
        page.goto(f"http://127.0.0.1:{instance.port}/-/status")
        expect(page.get_by_text(shown).first).to_be_visible()
        expect(page.locator("#instances tr", has_text=f"fast:{port}")).to_contain_text("● ready")
        if "unreadable report" in page.locator("#hints").inner_text():
            liar = page.locator("#instances tr", has_text=f"fast:{port + 1}")
            expect(liar).to_contain_text("✕ sends an unreadable report")
            expect(liar).to_have_class("fast bad")
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200f\u202e]", page.locator("main").inner_text())
        assert page.locator("main img").count() == 0
        assert not complaints
        page.close()


def test_the_pages_keep_to_their_content_security_policy_which_allows_nothing_inline(
    browser: Browser, system: System
) -> None:
    for url in (f"http://localhost:{system.admin_port}/status", f"http://localhost:{system.port}/"):
        page = browser.new_page()
        complaints = watch(page)
        response = page.goto(url)
        assert response
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        expect(page.get_by_text("● live" if "status" in url else "slowpool runs several")).to_be_visible()
        assert not complaints
        with pytest.raises(Exception, match=r"Content Security Policy|violates"):
            page.add_script_tag(content="document.title = 'owned'")
        assert page.title() != "owned"
        page.close()


def test_a_page_from_elsewhere_gets_nothing_of_the_status(browser: Browser, system: System) -> None:
    page = browser.new_page()
    page.goto(f"http://localhost:{system.port}/nothing")  # another origin: its port differs
    status = f"localhost:{system.admin_port}/status"
    assert page.evaluate(f"fetch('http://{status}').then(() => 'read', () => 'refused')") == "refused"
    opened = f"new Promise(end => {{ const s = new WebSocket('ws://{status}/live');"
    opened += " s.onopen = () => end('opened'); s.onerror = () => end('refused') })"
    assert page.evaluate(opened) == "refused"
    page.set_content(f"<iframe src='http://{status}'></iframe>")
    frame = page.frames[-1]
    assert frame.locator("#connection").count() == 0
    page.close()


def watch(page: Page) -> list[str]:
    """What the page's scripts and the browser complain about."""
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", note)
    return complaints
