"""The demo's page in a browser."""

import contextlib
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.support.process import Instance
from tests.support.system import System


@contextlib.contextmanager
def opened(browser: Browser, system: System | Instance, **options: Any) -> Iterator[Page]:
    """The page in a browser that has kept nothing; an error in its console fails the test."""
    context = browser.new_context(**options)
    context.set_default_timeout(60_000)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if is_error(message) else None)
    page.on("requestfailed", lambda request: print(request.url, request.failure))
    page.goto(f"http://localhost:{system.port}/")
    yield page
    context.close()
    assert not complaints


def is_error(message: ConsoleMessage) -> bool:
    """Whether the browser tells an error; not of a request, of which the page tells itself."""
    return message.type == "error" and "Failed to load resource" not in message.text
