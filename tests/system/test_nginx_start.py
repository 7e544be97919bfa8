"""nginx/start: nginx, and the filter of its stderr."""

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.basics import ROOT, free_ports, wait_until
from tests.support.client import exchange, refuses, request
from tests.support.nginx import LOCAL, Nginx, awks_of, errors, nginx, render_environment
from tests.support.process import runs

TOO_LARGE = b"POST /?s3cr3t HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Nginx]:
    with nginx(tmp_path) as server:
        yield server


def test_it_becomes_nginx_and_the_pipe_of_stderr_has_no_name_any_more(server: Nginx) -> None:
    assert int((server.folder / "nginx.pid").read_text()) == server.pid
    assert not (server.folder / "stderr").exists()
    assert filter_of(server).ppid() != server.pid  # its children are its workers


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_the_filter_ends_with_nginx(server: Nginx, number: signal.Signals) -> None:
    reader = filter_of(server)
    server.signal(number)
    assert server.wait() == 0
    wait_until(lambda: not runs(reader))


def test_the_filter_lives_as_long_as_the_workers_of_a_killed_nginx(server: Nginx) -> None:
    reader = filter_of(server)
    workers = psutil.Process(server.pid).children()
    server.signal(signal.SIGKILL)
    server.wait()
    assert exchange(server.port, TOO_LARGE).status == 413
    server_line(server)
    for worker in workers:
        worker.kill()
    wait_until(lambda: not runs(reader))


def test_nginx_goes_on_without_the_filter(server: Nginx) -> None:
    filter_of(server).kill()
    for _ in range(500):  # more than a pipe holds
        assert exchange(server.port, TOO_LARGE).status == 413


def test_a_reload_that_fails_logs_why_and_nginx_goes_on(server: Nginx) -> None:
    (server.folder / "http" / "upstreams.conf").write_text("nonsense;")
    server.signal(signal.SIGHUP)
    line = json.loads(server.wait_for_output("nonsense"))
    assert (line["logger"], line["level"]) == ("nginx", "CRITICAL")
    assert line["message"].startswith('unknown directive "nonsense" in ')
    assert not refuses(server.port)


def test_a_large_body_is_not_an_error(server: Nginx) -> None:
    """nginx warns that each is buffered in a file, which would let a client fill the log."""
    assert request(server.port, "/", "POST", body=b"x" * 1_000_000).status == 503
    server.wait_for_output("Connection refused")
    assert "temporary file" not in server.output


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        (
            {"SLOW_PER_CLIENT": "-1"},
            2,
            "nginx/render: SLOW_PER_CLIENT=-1 must be a whole number from 0 to 65535",
        ),
        ({"FAST_HOST": "fast..pool"}, 1, 'host not found in upstream "fast..pool:8001" in '),
    ],
)
def test_a_start_that_fails_logs_why_and_exits_with_the_status_of_render(
    tmp_path: Path, log_format: str, settings: dict[str, str], status: int, message: str
) -> None:
    env = {**render_environment({"LOG_FORMAT": log_format}, LOCAL), **settings}
    done = start(tmp_path, env)
    assert done.returncode == status
    if log_format == "json":
        found = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    else:
        found = [line.split(" nginx ", 1)[1].partition(" ")[2] for line in done.stdout.splitlines()]
    assert any(line.startswith(message) for line in found), done
    assert errors(done) == []


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_the_log_is_json_without_a_log_format(tmp_path: Path, value: str | None) -> None:
    env = {**render_environment(where=LOCAL), "SLOW_PER_CLIENT": "-1"}
    env.pop("LOG_FORMAT")
    if value is not None:
        env["LOG_FORMAT"] = value
    (line,) = [json.loads(line) for line in start(tmp_path, env).stdout.splitlines()]
    assert line["message"].startswith("nginx/render: SLOW_PER_CLIENT=-1 must be ")


def test_a_port_in_use_is_logged(server: Nginx, tmp_path: Path) -> None:
    env = render_environment({"HTTP_PORT": server.port, "ADMIN_PORT": free_ports()}, LOCAL)
    done = start(tmp_path / "other", env)
    assert done.returncode == 1
    messages = [json.loads(line)["message"] for line in done.stdout.splitlines()]
    assert any(line.startswith(f"bind() to 0.0.0.0:{server.port} failed (98: ") for line in messages)


def start(folder: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run nginx/start, which is expected to fail."""
    return subprocess.run(
        [ROOT / "nginx" / "start", folder], env=env, capture_output=True, text=True, timeout=30
    )


def filter_of(server: Nginx) -> psutil.Process:
    """The process that reads nginx's stderr."""
    (found,) = awks_of(server, "error_lines.awk")
    return found


def server_line(server: Nginx) -> None:
    """Wait for the error line of a request that is too large."""
    wait_until(lambda: "too large" in server.output)  # also of the workers of a master that has ended
    line = json.loads(server.wait_for_output("too large"))
    assert line["client"] == "127.0.0.1"
