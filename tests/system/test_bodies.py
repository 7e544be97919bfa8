"""What nginx makes of bodies of requests and headers of answers, before instances that a request can kill."""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from slowpool.config import Pool
from tests.support.basics import free_ports, wait_until
from tests.support.client import Response, exchange, request
from tests.support.gate import Gate
from tests.support.nginx import Nginx, nginx
from tests.support.process import APPS, Process, app_command, app_environment

APP = "tests.apps.edge:make_app"
INSTANCES = 2
POOLS = {Pool.FAST: "", Pool.SLOW: "/slow"}
"""Each pool, and what its paths begin with."""

BODIES = {
    "length": (b"Content-Length: 1\r\n", b"x"),
    "chunked": (b"Transfer-Encoding: chunked\r\n", b"1\r\nx\r\n0\r\n\r\n"),
    "none": (b"", b""),
    "empty": (b"Content-Length: 0\r\n", b""),
}


@dataclass(frozen=True)
class Edge:
    """nginx, and the instances behind it."""

    nginx: Nginx
    instances: dict[Pool, list[Process]]

    def kill(self, pool: Pool, count: int, gate: Gate) -> None:
        """Let requests kill so many instances of a pool; return once all their connections are closed.

        The kernel closes those of a process one after the other: the client can have its 502 before nginx
        knows of the others, and lose its next request with one of them.
        """
        while len(gate.entered) < count:
            response = request(self.nginx.port, gate(f"{POOLS[pool]}/die"), "POST", body=b"x")
            assert response.status in (502, 503)
        wait_until(lambda: sum(not instance.running for instance in self.instances[pool]) == count)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx and an instance of each pool, which no test harms."""
    with edge(tmp_path_factory.mktemp("nginx"), 1, *POOLS) as whole:
        yield whole.nginx


@pytest.fixture
def frail_edge(tmp_path: Path, pool: Pool) -> Iterator[Edge]:
    """nginx and instances of the test's pool for it to kill, to which nginx keeps connections."""
    with edge(tmp_path / "nginx", INSTANCES, pool) as frail:
        for _ in range(3 * INSTANCES):
            assert request(frail.nginx.port, f"{POOLS[pool]}/seen").status == 200
        yield frail


@pytest.fixture
def frail(frail_edge: Edge) -> Nginx:
    """The nginx of it."""
    return frail_edge.nginx


@contextmanager
def edge(folder: Path, count: int, *pools: Pool) -> Iterator[Edge]:
    """nginx, and so many instances of these pools; those of another do not run."""
    folder.mkdir(exist_ok=True)
    first = {pool: free_ports(count) for pool in POOLS}
    settings: dict[str, object] = {}
    for pool, port in first.items():
        settings |= {f"{pool.upper()}_PORT": port, f"{pool.upper()}_PROCESSES": count}
    instances: dict[Pool, list[Process]] = {}
    with ExitStack() as stack:
        for pool in pools:
            instances[pool] = [
                stack.enter_context(
                    Process(app_command(pool, port), APPS, app_environment(APPS, {"APP": APP}))
                )
                for port in range(first[pool], first[pool] + count)
            ]
        for instance in itertools.chain(*instances.values()):
            instance.wait_for_output(" is ready$")
        yield Edge(stack.enter_context(nginx(folder, settings)), instances)


@pytest.mark.parametrize("prefix", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("size", [5_000, 25_000, 31_000])
def test_an_answer_with_long_headers_passes_and_its_handler_runs_once(
    whole: Nginx, tmp_path: Path, prefix: str, size: int
) -> None:
    gate = Gate(tmp_path / "gate")
    response = request(whole.port, f"{gate(f'{prefix}/headers')}&size={size}")
    assert (response.status, response.text) == (200, "ok")
    assert response.headers["Set-Cookie"] == "c=" + "x" * size
    assert len(gate.entered) == 1


LONGEST = "b" * 70


@pytest.mark.parametrize("prefix", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "HEAD"])
@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=" + LONGEST + "b",
        'multipart/form-data; boundary="' + LONGEST + 'b"',
        "multipart/form-data;boundary=a" + "-" * 7900,
        'multipart/form-data; boundary="' + "-" * 3000,
        'multipart/form-data; boundary="a"' + "-" * 100,
        'multipart/form-data; boundary="' + "a;" * 40 + '"',
        "multipart/form-data; charset=utf-8; boundary=" + LONGEST + "b; x=y",
        "Multipart/Mixed; BOUNDARY = " + LONGEST + "b",
        "multipart/form-data; boundary=short; boundary=" + LONGEST + "b",
        "multipart/form-data; boundary=" + "a " * 40,
    ],
    ids=range(10),
)
def test_a_boundary_that_is_too_long_is_400_and_reaches_no_instance(
    whole: Nginx, prefix: str, method: str, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    response = request(whole.port, f"{prefix}/seen", method, headers=headers, body=b"x")
    assert response.status == 400
    assert response.pool == ""
    if method != "HEAD":
        assert response.problem()["detail"] == "the multipart boundary has more than 70 characters"


@pytest.mark.parametrize("prefix", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=" + LONGEST,
        'multipart/form-data; boundary="' + LONGEST + '"',
        'multipart/form-data; boundary="' + LONGEST + '" ; charset=utf-8',
        "multipart/form-data; boundary=" + LONGEST + " ; charset=" + "u" * 100,
        "multipart/form-data; name=" + "n" * 300 + "; boundary=b",
        "text/plain; charset=" + "u" * 300,
    ],
    ids=range(6),
)
def test_any_other_content_type_passes(whole: Nginx, prefix: str, content_type: str) -> None:
    boundary = content_type.partition("boundary=")[2].partition(";")[0].strip(' "')
    body = f"--{boundary}--\r\n".encode()
    headers = {"Content-Type": content_type}
    response = request(whole.port, f"{prefix}/seen", "POST", headers=headers, body=body)
    assert (response.status, response.text) == (200, f"POST {prefix}/seen {len(body)}")


@pytest.mark.parametrize("prefix", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("target", ["/seen/%20%25%C3%A9%0A%3F%23/x?q=%2F&r=a+b", "/seen"])
def test_a_body_passes_as_it_is_and_so_does_the_path(
    whole: Nginx, prefix: str, method: str, body: str, target: str
) -> None:
    response = ask(whole, f"{prefix}{target}", method, body)
    assert (response.status, response.text) == (200, f"{method} {prefix}{target} {len(BODIES[body][1][:1])}")


@pytest.mark.parametrize("prefix", POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_body_that_waits_for_100_continue_is_asked_for(whole: Nginx, prefix: str, method: str) -> None:
    data = f"{method} {prefix}/seen HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
    assert exchange(whole.port, data.encode(), then=b"x").text == f"{method} {prefix}/seen 1"


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("method", "body"),
    [("GET", "length"), ("GET", "chunked"), ("PUT", "length"), ("POST", "empty"),
     *(pytest.param(*other, marks=pytest.mark.long) for other in
       [("HEAD", "length"), ("DELETE", "chunked"), ("OPTIONS", "length"), ("POST", "length")])],
)  # fmt: skip
def test_a_request_with_a_body_ends_one_instance_at_most(
    frail: Nginx, tmp_path: Path, pool: Pool, method: str, body: str
) -> None:
    gate = Gate(tmp_path / "gate")
    response = ask(frail, gate(f"{POOLS[pool]}/die"), method, body)
    assert response.status == 502
    if method != "HEAD":
        assert response.problem()["detail"] == "the instance ended while it had the request"
    assert len(gate.entered) == 1


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("body", ["none", "empty"])
def test_a_get_without_a_body_is_tried_again(frail: Nginx, tmp_path: Path, pool: Pool, body: str) -> None:
    gate = Gate(tmp_path / "gate")
    assert ask(frail, gate(f"{POOLS[pool]}/die"), "GET", body).status == 502
    assert len(gate.entered) > 1


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_a_request_with_a_body_finds_the_instance_that_is_left(
    frail_edge: Edge, gate: Gate, pool: Pool, method: str
) -> None:
    frail_edge.kill(pool, INSTANCES - 1, gate)
    for _ in range(20):
        assert ask(frail_edge.nginx, f"{POOLS[pool]}/seen", method, "length").status == 200


@pytest.mark.parametrize("pool", POOLS)
def test_without_an_instance_a_request_with_a_body_is_503(frail_edge: Edge, gate: Gate, pool: Pool) -> None:
    frail_edge.kill(pool, INSTANCES, gate)
    for method in ("GET", "PUT", "POST"):
        response = ask(frail_edge.nginx, f"{POOLS[pool]}/seen", method, "length")
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert response.problem()["detail"] == "no instance takes requests at the moment"


@pytest.mark.parametrize("path", ["/-/once/fast", "/-/once/slow", "/-/websocket/fast"])
def test_the_locations_for_bodies_have_no_path_of_their_own(whole: Nginx, path: str) -> None:
    for body in BODIES:
        response = ask(whole, path, "GET", body)
        assert response.status == 404
        assert response.pool == "", "nginx has passed it on"


def ask(server: Nginx, target: str, method: str, body: str) -> Response:
    """One request with one of the bodies."""
    header, data = BODIES[body]
    head = f"{method} {target} HTTP/1.1\r\nHost: a\r\n".encode()
    return exchange(server.port, head + header + b"\r\n" + data, method=method)
