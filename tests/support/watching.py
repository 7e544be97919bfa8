"""What somebody sees of a deployment who begins to look now."""

import asyncio
from collections.abc import Mapping
from typing import Any

from slowpool.config import Config
from slowpool.status.overview import Overview
from tests.support.client import request

PLACES = ("FAST_PORT", "FAST_PROCESSES", "SLOW_PORT", "SLOW_PROCESSES")


def events(port: int, *kinds: str) -> list[dict[str, Any]]:
    """The events of these kinds, or all, that the instance on this port knows, the newest first."""
    known: list[dict[str, Any]] = request(port, "/-/events").json()["events"]
    return [event for event in known if not kinds or event["kind"] in kinds]


def texts(port: int, *kinds: str) -> list[str]:
    """The same as ``kind instance: text``."""
    return [f"{event['kind']} {event['instance']}: {event['text']}" for event in events(port, *kinds)]


def overview(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The content of the status page, with the figures of all instances at these ports."""

    async def look() -> dict[str, Any]:
        seen = Overview(Config(**{n.lower(): settings[n] for n in PLACES if n in settings}))
        await seen.look()
        content = seen.content()
        connections = [one.connection for one in seen._seen.values() if one.connection]
        seen.close()
        for connection in connections:
            while await connection.read_message() is not None:
                pass
        return content

    return asyncio.run(look())


def answered(settings: Mapping[str, Any], pool: str) -> int:
    """How many requests a pool has answered in ten minutes."""
    return sum(step["requests"] for step in overview(settings)["steps"][pool].values())
