"""Debian's Chromium, driven by Playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.basics import ROOT

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
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


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
