"""The events that an instance knows."""

from typing import Any

from tests.support.client import request


def events(port: int, *kinds: str) -> list[dict[str, Any]]:
    """Those of these kinds, or all, the newest first."""
    known: list[dict[str, Any]] = request(port, "/-/events").json()["events"]
    return [event for event in known if not kinds or event["kind"] in kinds]


def texts(port: int, *kinds: str) -> list[str]:
    """The same as ``kind instance: text``."""
    return [f"{event['kind']} {event['instance']}: {event['text']}" for event in events(port, *kinds)]
