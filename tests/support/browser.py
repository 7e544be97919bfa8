"""Debian's Chromium, driven by Playwright."""

import platform
import shlex
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from slowpool.linux.sandbox import SYSTEM_CALLS
from tests.support.basics import ROOT
from tests.support.sandbox import refusing

CHROMIUM = shutil.which("chromium-headless-shell") or shutil.which("chromium")
"""The shell takes half of the CPU time: it has no windows to draw."""

needs_chromium = pytest.mark.skipif(
    not CHROMIUM, reason="there is no chromium; install it: apt install chromium-headless-shell"
)

SCREENSHOTS = ROOT / ".run" / "screenshots"
"""The pictures that tests take."""


WATCH_STATES = """
    window.states = [document.body.dataset.state];
    new MutationObserver(() => states.push(document.body.dataset.state))
        .observe(document.body, { attributeFilter: ["data-state"] });
"""
"""Run in the status page: notes in ``states`` all that it says of its figures from now on."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser. What a test expects of its pages may take as long as on a stalled machine."""
    expect.set_options(timeout=30_000)
    with sync_playwright() as playwright, without_interfaces() as program:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def without_interfaces() -> Iterator[str | Path | None]:
    """A program that is Chromium, and never hears of the machine's network interfaces.

    When one gets an address, as with containers of the tests beside it, Chromium fails the requests that it
    is about to send (ERR_NETWORK_CHANGED). Without a netlink socket it takes the network to be there.
    """
    if not CHROMIUM or platform.machine() not in SYSTEM_CALLS:
        yield CHROMIUM
        return
    _, _, (socket_call, _), _ = SYSTEM_CALLS[platform.machine()]
    with tempfile.TemporaryDirectory(prefix="slowpool-chromium-") as folder:
        program = Path(folder, "chromium")
        command = refusing(socket_call, socket.AF_NETLINK, [CHROMIUM])
        program.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
        program.chmod(0o755)
        yield program


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """For the tests of a folder: asyncio.run() does not work while a browser is open."""
    with chromium() as browser:
        yield browser


def screenshot(page: Page, name: str) -> Path:
    """Keep a picture of the whole page."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    path = SCREENSHOTS / f"{name}.png"
    # The status page leaves out of sight what it has not to lay out.
    page.evaluate(
        "document.querySelectorAll('section').forEach(part => part.style.contentVisibility = 'visible')"
    )
    page.screenshot(path=path, full_page=True)
    return path
