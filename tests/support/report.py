"""What an instance says of itself to the status page."""

import asyncio
import json
from typing import Any

from slowpool.status.report import Report
from tests.support.process import Instance
from tests.support.websocket import websocket


def report_of(instance: Instance, since: int = 0) -> dict[str, Any]:
    """What the instance says of itself, with the history from this step on."""

    async def ask() -> Any:
        async with websocket(f"ws://127.0.0.1:{instance.port}/-/status/instance") as connection:
            await connection.write_message(str(since))
            return await connection.read_message()

    answer = asyncio.run(ask())
    Report.model_validate_json(answer)
    report: dict[str, Any] = json.loads(answer)
    return report
