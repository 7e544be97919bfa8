"""Servers from PyPI that are Tornado applications, as they are: flower, and Bokeh's."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import pytest

from tests.support.client import Response, request
from tests.support.plain import Plain
from tests.support.system import System
from tests.support.websocket import websocket

PACKAGES = ["flower==2.2.0", "bokeh==3.9.2"]
SHARED = ["tornado", "prometheus-client"]
"""Packages of slowpool too, which the instances take from the same folder."""

FLOWER = [
    ("/", 200),
    ("/workers", 200),
    ("/tasks", 200),
    ("/broker", 404),  # of Celery's broker in memory it knows nothing
    ("/metrics", 200),
    ("/healthcheck", 200),
    ("/static/css/flower.css", 200),
    ("/api/workers", 401),
    ("/nowhere", 404),
]
BOKEH = [
    ("/", 302),
    ("/plot", 200),
    ("/plot/metadata", 200),
    ("/plot/autoload.js?bokeh-autoload-element=1", 200),
    ("/static/js/bokeh.min.js", 200),
    ("/nowhere", 404),
]
Servers = tuple[int, int]
"""The ports of the application under plain Tornado and under slowpool."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The packages in a folder of their own, where the programs under test find them."""
    folder = tmp_path_factory.mktemp("packages")
    # Not compiled: tests/run has the compiled modules elsewhere.
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    shared = [f"{name}=={version(name)}" for name in SHARED]
    done = subprocess.run(
        [*pip, f"--target={folder}", *PACKAGES, *shared], capture_output=True, text=True, timeout=280
    )
    if "No matching distribution" in done.stderr:
        pytest.skip(f"the package index has no {' and '.join(PACKAGES)}, or cannot be reached")
    assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(folder))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)  # compiled once, not by each process
        yield


@pytest.fixture(scope="module")
def flower(packages: None) -> Iterator[Servers]:
    yield from served("tests.apps.real_flower:make_app")


@pytest.fixture(scope="module")
def bokeh(packages: None) -> Iterator[Servers]:
    yield from served("tests.apps.real_bokeh:make_app")


def served(app: str) -> Iterator[Servers]:
    """An application under plain Tornado, and under slowpool."""
    with Plain("tests.apps.plain", app) as plain, System(APP=app, AFFINITY="address") as system:
        yield plain.port, system.port


@pytest.mark.parametrize(("target", "status"), FLOWER)
def test_a_page_of_flower_is_what_it_is_under_plain_tornado(
    flower: Servers, target: str, status: int
) -> None:
    plain, slowpool = answers(flower, target)
    assert (plain.status, slowpool.status) == (status, status)
    if target != "/metrics":  # counts
        assert slowpool.body == plain.body


@pytest.mark.parametrize(("target", "status"), BOKEH)
def test_a_page_of_bokeh_is_what_it_is_under_plain_tornado(bokeh: Servers, target: str, status: int) -> None:
    plain, slowpool = answers(bokeh, target)
    assert (plain.status, slowpool.status) == (status, status)
    if target.startswith("/static/"):
        assert slowpool.body == plain.body


def test_a_plot_of_bokeh_is_drawn_over_its_websocket(bokeh: Servers) -> None:
    for port in bokeh:
        assert '"the plot"' in asyncio.run(document(port))


def answers(servers: Servers, target: str) -> list[Response]:
    """The answers of both; they agree on what kind of answer it is."""
    both = [request(port, target) for port in servers]
    assert len({(one.headers["Content-Type"], one.headers["Location"]) for one in both}) == 1
    return both


async def document(port: int) -> str:
    """What a browser reads of a plot, after it has loaded the page."""
    page = await asyncio.to_thread(request, port, "/plot")
    (token,) = re.findall(r'"token":"([^"]+)"', page.text)
    url = f"ws://127.0.0.1:{port}/plot/ws"
    async with asyncio.timeout(60), websocket(url, subprotocols=["bokeh", token]) as connection:
        ack = [json.loads(str(await connection.read_message())) for _ in range(3)]
        assert ack[0]["msgtype"] == "ACK"
        for part in ({"msgid": "1", "msgtype": "PULL-DOC-REQ"}, {}, {}):
            await connection.write_message(json.dumps(part))
        *_, content = [str(await connection.read_message()) for _ in range(3)]
        return content
