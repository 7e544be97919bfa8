"""events.awk, the program that counts for ``/status/edge``: it holds nginx up in no case, in any awk."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.support.basics import ROOT, wait_until
from tests.support.client import exchange, request
from tests.support.edge_counts import counting, edge_counts, wait_until_counted
from tests.support.nginx import Nginx, awks_of, nginx
from tests.support.process import runs

LINES = 6000
"""More than a pipe holds: a line of the log of events has 20 bytes and more, a pipe 65,536."""


def test_the_counts_survive_a_reload_and_the_end_of_their_program(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        with counting(server, {"errors 404": 1}):
            assert request(server.port, "/-/x").status == 404
        workers = psutil.Process(server.pid).children()
        server.signal(signal.SIGHUP)
        wait_until(lambda: not set(workers) & set(psutil.Process(server.pid).children()))
        with counting(server, {"errors 404": 1}):
            assert request(server.port, "/-/x").status == 404
        counter = counter_of(server)
        counter.kill()
        wait_until(lambda: any(awk.pid != counter.pid for awk in awks_of(server, "events.awk")))
        with counting(server, {"errors 404": 1}):
            assert request(server.port, "/-/x").status == 404
        wait_until_counted(server, {"errors 404": 6})


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGKILL])
def test_the_program_ends_with_nginx(tmp_path: Path, number: signal.Signals) -> None:
    with nginx(tmp_path) as server:
        counter, workers = counter_of(server), psutil.Process(server.pid).children()
        assert counter.ppid() != server.pid
        server.signal(number)
        server.wait()
        for worker in workers if number == signal.SIGKILL else []:
            worker.kill()
        wait_until(lambda: not runs(counter))


def test_nginx_goes_on_without_the_program_and_its_shell(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        for process in (counter_of(server).parent(), counter_of(server)):
            assert process
            process.kill()
        fill_pipe(server)


def test_nginx_goes_on_while_the_program_does_not_run(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(ROOT / "nginx", source)
    program = source / "events.awk"
    with nginx(tmp_path / "nginx", source=source) as server:
        text = program.read_text()
        program.write_text("BEGIN { exit 1 }")
        counter_of(server).kill()
        fill_pipe(server)
        program.write_text(text)
        wait_until(lambda: request(server.port, "/-/").status == 404 and edge_counts(server.admin_port))


def test_with_a_full_disk_nginx_goes_on_and_what_it_counts_is_written_later(tmp_path: Path) -> None:
    with nginx(tmp_path) as server:
        counter = counter_of(server)
        shell = counter.parent()
        assert shell
        limits = counter.rlimit(psutil.RLIMIT_FSIZE)
        for process in (shell, counter):
            process.rlimit(psutil.RLIMIT_FSIZE, (0, limits[1]))
        assert request(server.port, "/-/").status == 404
        wait_until((server.folder / "counts.new").exists)
        fill_pipe(server)
        assert edge_counts(server.admin_port) == {}
        counter.rlimit(psutil.RLIMIT_FSIZE, limits)
        assert request(server.port, "/-/").status == 404
        wait_until_counted(server, {"errors 400": LINES, "errors 404": 2})


def fill_pipe(server: Nginx) -> None:
    """Have nginx write so many lines about errors 400."""
    for _ in range(LINES):
        assert exchange(server.port, b"nonsense\r\n\r\n").status == 400


def counter_of(server: Nginx) -> psutil.Process:
    """The process that counts."""
    (found,) = wait_until(lambda: awks_of(server, "events.awk"))
    return found


@pytest.fixture(params=["mawk -W interactive", "gawk", "busybox awk", "original-awk"])
def command(request: pytest.FixtureRequest) -> list[str]:
    """events.awk in an awk."""
    awk: list[str] = request.param.split()
    if not shutil.which(awk[0]):
        pytest.skip(f"there is no {awk[0]}")
    return [*awk, "-f", str(ROOT / "nginx" / "events.awk")]


def environment_in(folder: Path) -> dict[str, str]:
    """The environment of events.awk."""
    files = {name: str(folder / name) for name in ("EVENTS", "COUNTS")}
    return {**os.environ, **files, "NGINX_PID": str(os.getpid()), "LC_ALL": "C"}


def count(command: list[str], folder: Path, *lines: str) -> list[str]:
    """What is in the file after these lines, without what is 0."""
    text = "\n".join([*lines, "write"])
    subprocess.run(command, input=text, env=environment_in(folder), text=True, check=True)
    found = (folder / "COUNTS").read_text().splitlines()
    return [line for line in found if not line.startswith("#") and not line.endswith(" 0")]


def test_every_awk_counts_a_line_by_its_tries(tmp_path: Path, command: list[str]) -> None:
    lines = [
        "8080|429|nginx|fast||||",
        "8080|429|nginx|fast||||",
        # Handed over after a second try, and asked for in vain: an ask that fails is none.
        "8080|200||slow| idle place|/502, 200 : 200 : 502, 404/502, 200 : 200 : 502, 404 : 200 : 504|502, 200"
        "|502, 200 : 200 : 502, 404 : 200 : 504 : 200",
        "8080|503|nginx|slow|||200|200 : 502, 502 : 502",
        "|499||slow||||-",  # its client, nginx, has gone
        "8080|499||fast||||-",
        "8080|499||fast||||502, 499",  # an instance's
        "nonsense",
    ]
    assert count(command, tmp_path, *lines) == [
        'nginx_errors_total{pool="fast",status="429"} 2',
        'nginx_errors_total{pool="fast",status="499"} 1',
        'nginx_errors_total{pool="slow",status="503"} 1',
        'nginx_second_tries_total{pool="fast"} 2',
        'nginx_second_tries_total{pool="slow"} 1',
        "nginx_hand_overs_total 2",
        'nginx_asks_total{ask="idle"} 1',
        'nginx_asks_total{ask="place"} 1',
    ]


def test_every_awk_goes_on_with_the_last_counts_where_the_disk_is_full(
    tmp_path: Path, command: list[str]
) -> None:
    counts = count(command, tmp_path, "8080|429|nginx|fast||||")
    assert counts == ['nginx_errors_total{pool="fast",status="429"} 1']
    limited = ["sh", "-c", 'ulimit -f 0 && exec "$@"', "-", *command]
    assert count(limited, tmp_path, "8080|429|nginx|fast||||") == counts


def test_every_awk_asks_again_for_a_clock_that_was_killed(tmp_path: Path, command: list[str]) -> None:
    sleep = tmp_path / "sleep"
    sleep.write_text('#!/bin/sh\necho >> "$0.asked"\nkill -9 $PPID\n')
    sleep.chmod(0o755)
    env = environment_in(tmp_path)
    env["PATH"] = f"{tmp_path}:{env['PATH']}"
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=env, text=True, bufsize=1) as program:
        assert program.stdin

        def is_asked_twice() -> bool:
            assert program.stdin
            program.stdin.write("8080|429|nginx|fast||||\n")
            asked = tmp_path / "sleep.asked"
            return asked.exists() and len(asked.read_text().splitlines()) > 1

        wait_until(is_asked_twice)
