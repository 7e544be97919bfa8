"""nginx/render and the configuration that it writes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.basics import DEFAULTS, ROOT
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.nginx import DOCKER, FAULTS, LOCAL, directives, errors, render, render_environment

REACH = "reachable with these settings"
SETTINGS = ROOT / "nginx" / "settings.sh"

BAD = [
    ("HTTP_PORT", "0"),
    ("HTTP_PORT", "65536"),
    ("HTTP_PORT", "http"),
    ("ADMIN_PORT", "-1"),
    ("ADMIN_PORT", "8081; load_module x"),
    ("FAST_PORT", "8001.5"),
    ("FAST_PORT", "65535"),  # for two instances
    ("SLOW_PORT", "99999999999999999999"),
    ("SLOW_PORT", "65535"),
    ("FAST_PROCESSES", "0"),
    ("FAST_PROCESSES", "257"),
    ("SLOW_PROCESSES", " 2"),
    ("SLOW_PROCESSES", "two"),
    ("FAST_HOST", "fast;"),
    ("FAST_HOST", "fast slow"),
    ("SLOW_HOST", "$slow"),
    ("SLOW_HOST", "[::1]"),
    ("ADMIN_ADDRESS", "127.0.0.1:1"),
    ("SCRAPE_ADDRESS", "*"),
    ("RESOLVER", "127.0.0.11 valid=1s"),
    ("HTTPS_PORT", "443s"),
    ("PUBLIC_HTTPS_PORT", "0"),
    ("SLOW_PER_CLIENT", "-1"),
    ("SLOW_PER_CLIENT", "four"),
    ("CLIENT_RATE", "10r/s"),
    ("CLIENT_CONNECTIONS", "1.5"),
    ("CLIENT_UPLOADS", "-1"),
    ("SERVER_NAMES", "shop.example;"),
    ("SERVER_NAMES", "~.*"),
    ("SERVER_NAMES", "shop.example/x"),
    ("TRUSTED_PROXIES", "unix:"),
    ("TRUSTED_PROXIES", "10.0.0.0/8;"),
    ("TLS_CERTIFICATE", "/nowhere/certificate.pem:"),
    ("TLS_KEY", "/nowhere/$key"),
    ("ADMIN_PASSWORD_FILE", "/nowhere/a b"),
    ("SLOW_TIMEOUT_SECONDS", "1m"),
    ("SLOW_TIMEOUT_SECONDS", "-1"),
    ("DRAIN_TIMEOUT_SECONDS", "inf"),
    ("DRAIN_TIMEOUT_SECONDS", "65s"),
    ("LOG_FORMAT", "text"),
    ("HTTP2", "yes"),
    ("SLOW_PATHS", "slow"),
    ("SLOW_PATHS", "/"),
    ("SLOW_PATHS", '/slow" { return 200; } location "/x'),
    ("SLOW_PATHS", "/$uri"),
    ("SLOW_PATHS", "/slow /x /slow"),
    ("SLOW_PATHS", "/a/./b"),
    ("STREAM_PATHS", "/-/x"),
    ("STREAM_PATHS", "/x /-"),
    ("MAX_BODY_BYTES", "20m"),
    ("MAX_BODY_BYTES", "0"),
    ("FAST_TIMEOUT_SECONDS", "0"),
    ("FAST_TIMEOUT_SECONDS", "1.5"),
    ("AFFINITY", "cookie:a;b"),
    ("AFFINITY", "cookies:a"),
]

EVERYTHING = {
    "SLOW_PATHS": "/slow /reports/",
    "STREAM_PATHS": "/upload",
    "AFFINITY": "cookie:session-id",
    "CLIENT_CONNECTIONS": 9,
    "CLIENT_RATE": 9,
}

# Findings of gixy that are intended, each with its reason.
GIXY_EXCEPTIONS = {
    # "rewrite ^ /-$uri" makes no redirect: nginx escapes the path again on its way to the instance.
    "http_splitting",
    # Without privileges nginx cannot raise its limit of open files; the engine or the shell sets it.
    "worker_rlimit_nofile_vs_connections",
    # The path after a Unix socket is $request_uri, as it was sent.
    "proxy_pass_normalized",
    # $taker is the address of an instance that has answered (templates/asked.conf).
    "ssrf",
    "missing_resolver",
}


@pytest.fixture(
    params=[(DOCKER, {}), (LOCAL, {}), (LOCAL, EVERYTHING)], ids=["docker", "local", "everything"]
)
def rendered(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A rendered configuration: of the default settings, and with every optional part."""
    where, settings = request.param
    env = render_environment(settings, where)
    while "443" in f"{env['HTTP_PORT']} {env['ADMIN_PORT']}":  # gixy takes such a port for one of TLS
        env = render_environment(settings, where)
    done = render(tmp_path, env)
    assert (done.returncode, done.stdout, errors(done)) == (0, "", [])
    return tmp_path


@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_setting_that_is_unset_or_empty_has_the_default_of_the_config(
    tmp_path: Path, value: str | None
) -> None:
    given = {name: str(value) for name, value in DEFAULTS.items()}
    assert render(tmp_path / "given", {**render_environment(), **LOCAL, **given}).returncode == 0
    env = {name: one for name, one in render_environment().items() if name not in {*DEFAULTS, *LOCAL}}
    if value is not None:
        env |= dict.fromkeys([*DEFAULTS, *LOCAL], value)
    assert render(tmp_path / "default", env).returncode == 0
    assert directives(tmp_path / "default") == directives(tmp_path / "given")


def test_settings_sh_has_the_defaults_of_the_config() -> None:
    lines = [shlex.split(line, comments=True) for line in SETTINGS.read_text().splitlines()]
    defaults = {name: default for _, name, default, *_ in filter(None, lines)}
    assert defaults == {name: str(DEFAULTS[name]).removesuffix(".0") for name in defaults}


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_wrong_setting_is_status_2_and_one_line_that_names_it(
    tmp_path: Path, name: str, value: str
) -> None:
    assert f"{name}={value} " in refused(tmp_path, {**render_environment(), name: value}, name)


def test_a_line_break_in_a_setting_is_refused(tmp_path: Path) -> None:
    done = render(tmp_path, {**render_environment(), "SERVER_NAMES": "shop.example\nshop.example"})
    assert done.returncode == 2


@pytest.mark.parametrize(
    "password",
    [b"", b"\n", b"one\ntwo\n", b"a:b", b"a\0b", b"a\0", b"\0\n", b"a\tb", b"a\r\n", b"\x1b[2Ja", b"a\x7f",
     b"\xff", b"\xc3", b"\xc0\x80", b"\xed\xa0\x80", "a\x9bb".encode(), "\x80".encode()],
)  # fmt: skip
def test_a_password_that_nginx_and_a_browser_read_differently_is_refused(
    tmp_path: Path, password: bytes
) -> None:
    file = tmp_path / "password"
    file.write_bytes(password)
    line = refused(tmp_path, render_environment({"ADMIN_PASSWORD_FILE": file}), "ADMIN_PASSWORD_FILE")
    assert line.endswith(f"={file} must hold one line of printable UTF-8 without a colon")


@pytest.mark.parametrize("password", ["correct horse", "é \u3042 🐎 ÿ\n", "x" * 200, "\\ \" ' $ ; {}"])
def test_any_other_password_is_accepted(tmp_path: Path, password: str) -> None:
    file = tmp_path / "password"
    file.write_text(password)
    done = render(tmp_path / "nginx", render_environment({"ADMIN_PASSWORD_FILE": file}, LOCAL))
    assert (done.returncode, errors(done)) == (0, [])
    assert (tmp_path / "nginx" / "rendered" / "admin_password").read_text() == "admin:{PLAIN}" + password


@pytest.mark.parametrize(
    ("version", "faulty"),
    [("nginx/1.31.3", True), ("nginx/1.30.6", True), ("nginx/1.31.8", True), ("nginx/1.31.0", True),
     ("nginx/1.30.6 (Debian)", True), ("nginx/1.29.8", True), ("nginx/0.8.54", True),
     ("nginx/1.30.7", False), ("nginx/1.30.7 (Debian)", False), ("nginx/1.30.10", False),
     ("nginx/1.31.9", False), ("nginx/1.31.10", False), ("nginx/1.32.0", False), ("nginx/2.0.0", False)],
)  # fmt: skip
def test_a_release_with_known_faults_is_named_and_not_refused(
    tmp_path: Path, version: str, faulty: bool
) -> None:
    env = with_nginx(tmp_path, version, render_environment())
    done = render(tmp_path / "nginx", env)
    assert done.returncode == 0
    assert [version.partition(" ")[0] in line for line in done.stderr.splitlines()] == [True] * faulty
    told = subprocess.run(["nginx/render", "--faults"], env=env, capture_output=True, text=True, timeout=30)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith(version.partition(" ")[0]) if faulty else told.stdout == ""


def test_the_faults_of_another_build_are_not_known(tmp_path: Path) -> None:
    done = render(tmp_path / "nginx", with_nginx(tmp_path, "openresty/1.31.9.1", render_environment()))
    assert done.returncode == 0
    assert "openresty/1.31.9.1 is a build whose faults are not known here" in done.stderr


@needs_openssl
@pytest.mark.parametrize(
    ("where", "tls", "http2", "reach"),
    [
        (LOCAL, False, "on", "none"),
        (
            LOCAL,
            True,
            "on",
            "CVE-2026-123007 and CVE-2026-123633 (HTTP/2: .*), CVE-2026-118899 (TLS 1.3: .*)",
        ),
        (LOCAL, True, "off", "none of HTTP/2, which is off, but CVE-2026-118899 (TLS 1.3: .*)"),
        (DOCKER, False, "on", "CVE-2026-123634 (the DNS server: .*)"),
    ],
)
def test_the_line_about_faults_names_those_that_can_be_reached(
    tmp_path: Path, where: dict[str, str], tls: bool, http2: str, reach: str
) -> None:
    settings: dict[str, object] = {}
    if tls:
        settings = {"TLS_CERTIFICATE": tmp_path / "certificate", "TLS_KEY": tmp_path / "key"}
        make_certificate(tmp_path / "certificate", tmp_path / "key")
    env = with_nginx(tmp_path, "nginx/1.31.3", {**render_environment(settings, where), "HTTP2": http2})
    done = render(tmp_path / "nginx", env)
    assert done.returncode == 0
    pattern = f"{FAULTS}1.31.3 has known faults, fixed in 1.30.7 and 1.31.9; {REACH}: {reach}\n"
    assert re.fullmatch(pattern.replace("(", r"\(").replace(")", r"\)"), done.stderr)
    if tls:
        (http2_of,) = [one.arguments for one in directives(tmp_path / "nginx") if one.name == "http2"]
        assert http2_of == [http2]


def test_http2_is_on_or_off(tmp_path: Path) -> None:
    line = refused(tmp_path, {**render_environment(), "HTTP2": "yes"}, "HTTP2")
    assert line.endswith("must be one of: on off")


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    env = render_environment({"TLS_CERTIFICATE": tmp_path / "none", "TLS_KEY": tmp_path / "none"})
    assert refused(tmp_path, env, "TLS_CERTIFICATE").endswith(" must be a file that exists")


def test_a_server_name_of_0_is_a_name(tmp_path: Path) -> None:
    assert render(tmp_path, render_environment({"SERVER_NAMES": 0}, LOCAL)).returncode == 0
    assert (tmp_path / "rendered" / "unknown_name_public.conf").read_text()


@pytest.mark.parametrize("value", ["0", "00", "7", "07"])
def test_a_limit_of_0_is_none(tmp_path: Path, value: str) -> None:
    names = ["SLOW_PER_CLIENT", "CLIENT_RATE", "CLIENT_CONNECTIONS", "CLIENT_UPLOADS"]
    limits = dict.fromkeys(names, value)
    assert render(tmp_path, render_environment(where={**LOCAL, **limits})).returncode == 0
    for name in (*map(str.lower, names), "client_rate_zone"):
        text = (tmp_path / "rendered" / f"{name}.conf").read_text()
        assert bool(text) == (int(value) > 0)
        assert "07" not in text


@pytest.mark.parametrize("fast", [1, 2, 9, 256])
@pytest.mark.parametrize("slow", [1, 3])
def test_an_upstream_lists_exactly_the_instances_of_its_pool(tmp_path: Path, fast: int, slow: int) -> None:
    env = render_environment({"FAST_PROCESSES": fast, "SLOW_PROCESSES": slow}, LOCAL)
    assert render(tmp_path, env).returncode == 0
    assert servers(tmp_path, "fast") == [f"127.0.0.1:{8001 + index}" for index in range(fast)]
    assert servers(tmp_path, "slow") == [f"127.0.0.1:{8101 + index}" for index in range(slow)]


def test_the_second_try_asks_the_same_instances_and_avoids_none(rendered: Path) -> None:
    found = {
        pool: [arguments[1] for arguments in upstream_servers(rendered, pool)]
        for pool in ("fast", "fast_again", "slow", "slow_again", "fast_by_client")
    }
    by_client = found.pop("fast_by_client")
    assert by_client in ([], ["max_fails=0"] * 2)
    assert found == {
        **dict.fromkeys(["fast", "slow"], ["max_fails=1"] * 2),
        **dict.fromkeys(["fast_again", "slow_again"], ["max_fails=0"] * 2),
    }
    for pool in ("fast", "slow"):
        assert servers(rendered, f"{pool}_again") == servers(rendered, pool)


def test_the_highest_port_can_be_used(tmp_path: Path) -> None:
    env = render_environment({"FAST_PORT": 65534, "SLOW_PORT": 65535, "SLOW_PROCESSES": 1})
    assert render(tmp_path, env).returncode == 0
    assert servers(tmp_path, "fast") == ["fast:65534", "fast:65535"]


def test_a_leading_zero_does_not_make_a_number_octal(tmp_path: Path) -> None:
    env = render_environment({"FAST_PORT": "08001", "FAST_PROCESSES": "010"})
    assert render(tmp_path, env).returncode == 0
    assert servers(tmp_path, "fast") == [f"fast:{8001 + index}" for index in range(10)]


def test_with_a_resolver_nginx_looks_names_up_every_second(tmp_path: Path) -> None:
    assert render(tmp_path, render_environment(where=DOCKER)).returncode == 0
    found = directives(tmp_path)
    (resolver,) = [directive.arguments for directive in found if directive.name == "resolver"]
    assert resolver == ["127.0.0.11", "valid=1s", "ipv6=off"]
    assert all("resolve" in arguments for arguments in upstream_servers(tmp_path))


def test_without_a_resolver_no_name_is_looked_up(tmp_path: Path) -> None:
    assert render(tmp_path, render_environment(where=LOCAL)).returncode == 0
    assert "resolver" not in {directive.name for directive in directives(tmp_path)}
    assert not any("resolve" in arguments for arguments in upstream_servers(tmp_path))


def test_a_fraction_of_a_second_is_rounded_up(tmp_path: Path) -> None:
    env = render_environment({"SLOW_TIMEOUT_SECONDS": 10.2, "DRAIN_TIMEOUT_SECONDS": 20.7})
    assert render(tmp_path, env).returncode == 0
    found = {directive.name: directive.arguments for directive in directives(tmp_path)}
    assert found["worker_shutdown_timeout"] == ["23s"]
    assert "    proxy_read_timeout 16s;" in (tmp_path / "rendered" / "pools.conf").read_text().splitlines()


@pytest.mark.parametrize("timeout", [0.001, 60, 900])
def test_an_event_stream_may_be_silent_for_longer_than_an_instance_lets_it_be(
    tmp_path: Path, timeout: float
) -> None:
    assert render(tmp_path, render_environment({"SLOW_TIMEOUT_SECONDS": timeout}, LOCAL)).returncode == 0
    text = (tmp_path / "rendered" / "jobs.conf").read_text()
    found = [int(seconds) for seconds in re.findall(r"proxy_read_timeout (\d+)s;", text)]
    assert len(found) == text.count("proxy_pass") == 3
    assert min(found) >= max(4 * 15, timeout)


def test_rendering_again_replaces_what_was_there(tmp_path: Path) -> None:
    assert render(tmp_path, render_environment({"FAST_PROCESSES": 4}, LOCAL)).returncode == 0
    assert render(tmp_path, render_environment({"FAST_PROCESSES": 1}, LOCAL)).returncode == 0
    assert servers(tmp_path, "fast") == ["127.0.0.1:8001"]


def test_nginx_accepts_the_rendered_configuration_without_a_warning(rendered: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "nginx", "-p", rendered, "-c", rendered / "nginx.conf", "-t"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0
    assert not [line for line in done.stderr.splitlines() if "[" in line], done.stderr


def test_a_configuration_that_nginx_refuses_fails_loudly(tmp_path: Path) -> None:
    """A name with an empty part is invalid, so no DNS server is asked."""
    env = render_environment(where={**LOCAL, "FAST_HOST": "fast..pool"})
    done = render(tmp_path, env)
    assert done.returncode == 1
    assert "host not found" in done.stderr
    assert f"nginx refuses the configuration in {tmp_path}" in done.stderr


def test_a_pipe_that_an_earlier_nginx_has_left_does_not_hold_it_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events")
    assert render(tmp_path, render_environment()).returncode == 0


@pytest.mark.parametrize("blocked", ["", "http", "rendered", "tmp", "nginx.conf/x"])
def test_a_target_that_cannot_be_written_fails_loudly(tmp_path: Path, blocked: str) -> None:
    """A file is where a folder must be, or the other way round, which stops root too."""
    target = tmp_path / "target"
    obstacle = target / blocked
    obstacle.parent.mkdir(parents=True, exist_ok=True)
    obstacle.write_text("in the way")
    done = render(target, render_environment())
    assert done.returncode == 1
    assert f"nginx/render: cannot write to {target}" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("file", ["servers_fast", "main", "public", "paths", "pools"])
def test_a_full_disk_fails_loudly(tmp_path: Path, file: str) -> None:
    (tmp_path / "rendered").mkdir()
    (tmp_path / "rendered" / f"{file}.conf").symlink_to("/dev/full")
    done = render(tmp_path, render_environment())
    assert done.returncode != 0
    assert done.stderr


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_wrong_arguments_print_the_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        ["nginx/render", *arguments],
        env=render_environment(),
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 2
    assert done.stderr == "nginx/render: usage: nginx/render DIR | --faults\n"


def test_gixy_finds_only_what_is_intended(rendered: Path) -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "gixy", "-f", "json", rendered / "nginx.conf"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    found = {issue["plugin"]: issue for issue in json.loads(done.stdout)}
    assert found.keys() <= GIXY_EXCEPTIONS, {
        name: issue for name, issue in found.items() if name not in GIXY_EXCEPTIONS
    }


def refused(folder: Path, env: dict[str, str], name: str) -> str:
    """The one error line, about this setting."""
    done = render(folder, env)
    lines = errors(done)
    assert done.returncode == 2, done
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"nginx/render: {name}")
    return lines[0]


def with_nginx(folder: Path, version: str, env: dict[str, str]) -> dict[str, str]:
    """The environment with the same nginx first in PATH, which prints another version."""
    folder = folder / "bin"
    folder.mkdir()
    real = shutil.which("nginx", path=env["PATH"])
    script = (
        f'#!/bin/sh\n[ "$1" != -v ] || {{ echo "nginx version: {version}" >&2; exit; }}\nexec {real} "$@"\n'
    )
    (folder / "nginx").write_text(script)
    (folder / "nginx").chmod(0o755)
    return {**env, "PATH": f"{folder}:{env['PATH']}"}


def upstream_servers(folder: Path, pool: str = "") -> list[list[str]]:
    """The arguments of each ``server`` of the upstreams, or of one of them."""
    return [
        directive.arguments
        for directive in directives(folder)
        if directive.name == "server"
        and directive.arguments
        and (not pool or directive.blocks[-1:] == (f"upstream {pool}",))
    ]


def servers(folder: Path, pool: str) -> list[str]:
    """The addresses of one upstream."""
    return [arguments[0] for arguments in upstream_servers(folder, pool)]
