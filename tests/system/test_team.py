"""A team's application, written for plain Tornado, does under slowpool what it does under plain Tornado."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.support.plain import Plain
from tests.support.system import ONE_EACH, System
from tests.support.team import CHECKS, SETTINGS
from tests.support.web_session import WebSession
from tests.support.websocket import websocket


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A database for this module, by a variable of the application's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEAM_DATABASE", str(tmp_path_factory.mktemp("team") / "team.sqlite"))
        yield


@pytest.fixture(scope="module")
def plain(database: None) -> Iterator[str]:
    """The application's own server."""
    with Plain("tests.apps.team") as process:
        yield f"http://127.0.0.1:{process.port}"


@pytest.fixture(scope="module")
def slowpool(database: None) -> Iterator[str]:
    """Both pools behind nginx. The log has the traceback of the page that is broken."""
    with System(harmed=True, **SETTINGS) as system:
        yield f"http://127.0.0.1:{system.port}"
        assert system.stop() == 0


@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS.keys())
@pytest.mark.parametrize("server", ["plain", "slowpool"])
def test_the_application_does_what_it_promises(
    request: pytest.FixtureRequest, server: str, check: Callable[[str], None]
) -> None:
    check(request.getfixturevalue(server))


def test_a_quiet_websocket_stays_open() -> None:
    with System(APP="tests.apps.controlled:make_app", FAST_TIMEOUT_SECONDS=1, **ONE_EACH) as system:
        asyncio.run(exchange_after_silence(f"ws://127.0.0.1:{system.port}/talk", seconds=2.5))


async def exchange_after_silence(url: str, seconds: float) -> None:
    """Say something on a WebSocket that has been quiet for so long."""
    async with websocket(url) as connection:
        await asyncio.sleep(seconds)
        await connection.write_message("still there")
        assert await connection.read_message() == "still there"


def test_only_the_call_of_run_takes_a_request_to_the_slow_pool(slowpool: str) -> None:
    session = WebSession(slowpool)
    assert session.get("/document").pool == "fast"
    assert session.get("/summary?pages=1").pool == "slow"
    assert session.get("/reports/none").pool == "fast"
