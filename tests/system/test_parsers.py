"""Where one request ends and the next begins, and which pool a path goes to.

All of ``parser_cases`` is sent to nginx and straight to an instance of each pool; requests to ``/fast`` are
sent as requests to ``/slow`` as well. The tests read what became of it when all servers have ended, so that
nothing can run later. ``--parser-mutants`` is how many changed cases are sent through nginx beside them.
"""

import json
import random
import re
import socket
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from slowpool.config import Pool
from tests.support.parser_cases import (
    READ_ALIKE,
    READ_DIFFERENTLY,
    REFUSED_BY_BOTH,
    REFUSED_BY_NGINX,
    REFUSED_BY_SLOWPOOL,
    REFUSED_BY_TORNADO,
    SMUGGLED,
    TARGETS,
    message,
)
from tests.support.process import Instance
from tests.support.system import ONE_EACH, System

FRAMING = {
    **{name: (data, "refused", "refused") for name, data in REFUSED_BY_BOTH},
    **{name: (data, "refused", tornado) for name, data, tornado in REFUSED_BY_NGINX},
    **{name: (data, nginx, "refused") for name, data, nginx in REFUSED_BY_TORNADO},
    **{name: (data, both, both) for name, data, both in READ_ALIKE},
    **{name: (data, nginx, tornado) for name, data, nginx, tornado in READ_DIFFERENTLY},
}
PATHS = {name: (target, nginx) for name, target, nginx in TARGETS}
POOLS = (Pool.FAST, Pool.SLOW)
NEXT = message("Connection: close", target="/fast/next")
ODD: list[str] = [*"\r\n\0\t\x0b :,;/#\xa00_", "\r\n", "\r\n ", "%2f", ".."]
THREADS = 3
"""A client may have only so many slow requests at once."""
NOT_PASSED_ON = {
    *("X-Scheme", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Port"),
    *("X-Forwarded-Ssl", "X-Forwarded-Prefix"),
    *("Transfer-Encoding", "Te", "Keep-Alive", "Expect"),
}


@dataclass(frozen=True)
class Seen:
    """A request, as an instance saw it."""

    name: str
    id: str
    pool: str
    method: str
    target: str
    host: str
    client: str
    scheme: str
    headers: list[list[str]]
    body: str

    def __str__(self) -> str:
        body = self.body.replace(of(Pool(self.pool), SMUGGLED), "<SMUGGLED>")
        host = "" if self.host == "a" else f" @{self.host}"
        return f"{self.method} {self.target}{unlike(self.target, self.pool)}{host}" + (
            f" {body!r}" if body else ""
        )


@dataclass(frozen=True)
class Exchange:
    """What is sent on a connection, and what should become of it."""

    data: str
    expected: str


Key = tuple[str, Pool]
"""The name of a case, and the pool that it is meant for."""


@dataclass(frozen=True, repr=False)
class Run:
    """What became of all that was sent to one server."""

    outcomes: dict[Key, str]
    expected: dict[Key, str]
    seen: list[Seen]
    output: str = ""

    def check(self) -> None:
        """Raises AssertionError, naming them, when cases did not become what was expected."""
        wrong = [
            f"{name}, {pool}: {self.outcomes[name, pool]}, and not: {expected}"
            for (name, pool), expected in self.expected.items()
            if self.outcomes[name, pool] != expected
        ]
        assert not wrong, "\n".join(["", *wrong])

    def log(self) -> list[dict[str, Any]]:
        """The lines of nginx."""
        lines = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line for line in lines if line["logger"] == "nginx"]


@pytest.fixture(scope="module")
def behind_nginx(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Run:
    """What instances see behind nginx."""
    witness = tmp_path_factory.mktemp("behind_nginx") / "witness"
    cases = {
        (name, pool): Exchange(of(pool, data + NEXT), of(pool, nginx))
        for name, (data, nginx, _) in FRAMING.items()
        for pool in POOLS
    }
    for name, (target, nginx) in PATHS.items():
        cases[name, Pool.FAST] = Exchange(message(target=target) + NEXT, nginx)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WITNESS", str(witness))
        with System(APP="tests.apps.witness:make_app", **ONE_EACH) as system:
            answers = send_all(system.port, cases)
            send_mutants(system.port, cases.values(), int(pytestconfig.getoption("--parser-mutants")))
            assert system.stop() == 0
            return run(cases, answers, witness, system.output)


@pytest.fixture(
    scope="module", params=[(Pool.FAST, "slowpool"), (Pool.SLOW, "slowpool"), (Pool.FAST, "tornado")], ids=str
)
def alone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What an instance sees when it is asked itself, with slowpool's HTTP server and with Tornado's."""
    pool, server = request.param
    refused = REFUSED_BY_SLOWPOOL if server == "slowpool" else set()
    witness = tmp_path_factory.mktemp("alone") / "witness"
    cases = {
        (name, pool): Exchange(of(pool, data + NEXT), "refused" if name in refused else of(pool, tornado))
        for name, (data, _, tornado) in FRAMING.items()
    }
    for name, (target, _) in PATHS.items():
        cases[name, pool] = Exchange(message(target=target) + of(pool, NEXT), alone_it_is(target, pool))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WITNESS", str(witness))
        with Instance(pool, APP="tests.apps.witness:make_app", HTTP_SERVER=server) as instance:
            answers = send_all(instance.port, cases)
    return run(cases, answers, witness)


def test_nginx_refuses_a_request_or_passes_on_what_it_has_understood(behind_nginx: Run) -> None:
    behind_nginx.check()


def test_an_instance_that_is_asked_itself_draws_no_other_line_between_requests(alone: Run) -> None:
    alone.check()


def test_every_case_has_a_name_of_its_own() -> None:
    tables = (REFUSED_BY_BOTH, REFUSED_BY_NGINX, REFUSED_BY_TORNADO, READ_ALIKE, READ_DIFFERENTLY, TARGETS)
    names = [case[0] for table in tables for case in table]
    assert len(names) == len({*names})


def test_no_part_of_a_body_has_run(behind_nginx: Run) -> None:
    assert any("smuggled" in seen.body for seen in behind_nginx.seen)
    assert not [str(seen) for seen in behind_nginx.seen if re.fullmatch("/(fast|slow)/smuggled", seen.target)]


def test_nginx_logs_each_request_that_an_instance_has_seen_and_no_other_as_its_answer(
    behind_nginx: Run,
) -> None:
    nginx = [line for line in behind_nginx.log() if "status" in line]  # without its errors
    seen = Counter(request.id for request in behind_nginx.seen)
    assert seen.total() > len(FRAMING)
    assert seen - Counter(line["request_id"] for line in nginx if line["upstream"]) == Counter()
    answered = [line for line in nginx if line["instance"] and line["status"] == 200]
    assert Counter(line["request_id"] for line in answered) - seen == Counter()
    assert {line["route"] for line in answered} == {".*"}


def test_an_instance_sees_the_client_as_nginx_has_seen_it(behind_nginx: Run) -> None:
    for seen in behind_nginx.seen:
        headers: dict[str, list[str]] = {}
        for name, value in seen.headers:
            headers.setdefault(name, []).append(value)
        assert (seen.client, seen.scheme) == ("127.0.0.1", "http"), seen
        assert headers["X-Real-Ip"] == headers["X-Forwarded-For"] == ["127.0.0.1"], seen
        assert headers["X-Forwarded-Proto"] == ["http"], seen
        assert headers["X-Request-Id"] == [seen.id], seen
        assert len(headers["Host"]) == len(headers["Traceparent"]) == 1, seen
        assert not headers.keys() & NOT_PASSED_ON, seen
        assert not [name for name in headers if "_" in name], seen


def of(pool: Pool, text: str) -> str:
    """The same for the other pool."""
    return text.replace("/fast", f"/{pool}")


def alone_it_is(target: str, pool: Pool) -> str:
    """What an instance of this pool makes of a target, when nginx has not seen it."""
    if re.search(r"[\x00-\x20\x7f]", target):
        return "refused"
    if target.startswith("/-/"):
        return "421" if target == "/-/readyz" else "404"  # its name is not the machine's
    return f"GET {target}{unlike(target, pool)}"


def unlike(target: str, pool: str) -> str:
    """The pool, if the target looks like one of the other pool."""
    return "" if target.startswith("/slow") == (pool == "slow") else f" ({pool})"


def send_all(port: int, cases: dict[Key, Exchange]) -> dict[Key, tuple[bytes, bool]]:
    """Send each on a connection of its own; what came back, and whether the server closed it."""
    with ThreadPoolExecutor(THREADS) as executor:
        answers = executor.map(
            lambda case: send(port, case.data, 1 if case.expected.endswith("waits") else 20), cases.values()
        )
        return dict(zip(cases, answers, strict=True))


def send_mutants(port: int, cases: Iterable[Exchange], count: int) -> None:
    """Send cases that have been changed in one place; the same for the same count."""
    chance = random.Random(count)
    choice = [case.data.replace("smuggled", "mutation") for case in cases]

    def mutant() -> str:
        data = chance.choice(choice)
        place = chance.randrange(len(data))
        return data[:place] + chance.choice(ODD) + data[place + chance.randint(0, 1) :]

    with ThreadPoolExecutor(THREADS) as executor:
        list(executor.map(lambda data: send(port, data, 0.2), [mutant() for _ in range(count)]))


def send(port: int, data: str, patience: float) -> tuple[bytes, bool]:
    """Send it at once; what came back, and whether the server has closed before it was silent for so long."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        try:
            connection.sendall(data.encode("latin-1"))
            while part := connection.recv(65536):
                received += part
        except TimeoutError:
            return received, False
        except ConnectionError:  # closed, with something unread
            pass
    return received, True


def run(
    cases: dict[Key, Exchange], answers: dict[Key, tuple[bytes, bool]], witness: Path, output: str = ""
) -> Run:
    """Bring together what the client and the instances saw."""
    seen = [Seen(**json.loads(line)) for line in witness.read_text().splitlines()]
    by_name = {request.name: request for request in seen}
    outcomes = {key: outcome(*answer, by_name) for key, answer in answers.items()}
    return Run(outcomes, {key: case.expected for key, case in cases.items()}, seen, output)


def outcome(received: bytes, closed: bool, seen: dict[str, Seen]) -> str:
    """What became of a connection's requests, as parser_cases tells it."""
    parts = []
    for answer in re.split(rb"(?=HTTP/1\.1 \d{3})", received):
        name = re.search(rb"X-Witness: (\w+)|^(\w+)$", answer)
        if name:
            parts.append(str(seen[(name[1] or name[2]).decode()]))
        elif answer:
            parts.append(answer.split()[1].decode())
    if parts and re.fullmatch(r"GET /(fast|slow)/next", parts[-1]):
        return " | ".join(parts[:-1])
    if closed and re.fullmatch(r"([45]\d\d)?", "".join(parts)):
        return "refused"
    return " | ".join([*parts, "closed" if closed else "waits"])
