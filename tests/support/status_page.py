"""The status page in a browser, with figures that a test makes up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from tests.apps.hostile import MARKUP
from tests.support.status_server import StatusServer, content, instance, pool, running

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


@contextmanager
def opened(
    browser: Browser, server: StatusServer, width: int = 1280, script: str = "", **options: Any
) -> Iterator[Page]:
    """The page, once it is live; an error in its console fails the test. ``script`` runs before its own."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    if script:
        context.add_init_script(script)
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
            "The slow pool is full: it refused 380 requests in the last minute. Scale it with "
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


def hide(page: Page, is_hidden: bool) -> None:
    """Let the page believe that its tab is in the background, or in front again."""
    page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')) }",
        is_hidden,
    )
