"""Which nginx a local run takes."""

import os
import shutil
from pathlib import Path

import pytest

from deploy.supervise.nginx_choice import choose_nginx
from slowpool.errors import ConfigError
from tests.support.nginx import LOCAL, render_environment

REAL = shutil.which("nginx", path=render_environment()["PATH"])


@pytest.fixture(autouse=True)
def _no_system_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.supervise.nginx_choice.SYSTEM_FOLDERS", "")


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """That of a run whose wheel has faults, on a machine that has no nginx."""
    environ = {
        **render_environment({}, LOCAL),
        "PATH": f"{tmp_path / 'wheel'}:{tmp_path / 'machine'}:/usr/bin:/bin",
    }
    environ.pop("HTTP2", None)
    put(tmp_path / "wheel", "1.31.3")
    return environ


@pytest.mark.parametrize(
    ("version", "taken"), [("1.30.7", True), ("1.31.9", True), ("1.30.6", False), ("1.26.3", False)]
)
def test_the_machines_nginx_is_taken_where_it_has_no_known_faults(
    tmp_path: Path, environ: dict[str, str], version: str, taken: bool
) -> None:
    put(tmp_path / "machine", version)
    found = choose(environ, tmp_path)
    assert found == str(tmp_path / ("machine" if taken else "wheel") / "nginx")
    assert environ.get("HTTP2", "on") == ("on" if taken else "off")


def test_the_machines_nginx_is_not_taken_where_it_refuses_the_configuration(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    put(tmp_path / "machine", "1.30.7", 'echo "nginx: [emerg] unknown directive" >&2; exit 1')
    assert choose(environ, tmp_path) == str(tmp_path / "wheel" / "nginx")
    assert environ["HTTP2"] == "off"


def test_without_one_of_the_machine_it_is_the_wheels(tmp_path: Path, environ: dict[str, str]) -> None:
    assert choose(environ, tmp_path) == str(tmp_path / "wheel" / "nginx")
    assert environ["HTTP2"] == "off"


def test_one_that_was_taken_before_and_has_gone_is_not_taken(tmp_path: Path, environ: dict[str, str]) -> None:
    put(tmp_path / "machine", "1.30.7")
    choose(dict(environ), tmp_path)
    (tmp_path / "machine" / "nginx").unlink()
    assert choose(environ, tmp_path) == str(tmp_path / "wheel" / "nginx")


def test_the_operator_can_have_http2_all_the_same(tmp_path: Path, environ: dict[str, str]) -> None:
    environ["HTTP2"] = "on"
    choose(environ, tmp_path)
    assert environ["HTTP2"] == "on"


def test_an_empty_variable_is_no_wish(tmp_path: Path, environ: dict[str, str]) -> None:
    environ["HTTP2"] = ""
    choose(environ, tmp_path)
    assert environ["HTTP2"] == "off"


def test_with_no_nginx_at_all_it_says_so(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "wheel" / "nginx").unlink()
    with pytest.raises(ConfigError, match="there is no nginx in PATH"):
        choose_nginx(environ, tmp_path)


def choose(environ: dict[str, str], run_dir: Path) -> str:
    """The nginx that the environment finds once it is changed."""
    environ |= choose_nginx(environ, run_dir)
    found = shutil.which("nginx", path=environ["PATH"])
    assert found
    return str(Path(found).readlink() if os.path.islink(found) else found)


def put(folder: Path, version: str, otherwise: str = f'exec {REAL} "$@"') -> None:
    """An nginx that says that it has this version."""
    folder.mkdir()
    told = f'[ "$1" != -v ] || {{ echo "nginx version: nginx/{version}" >&2; exit; }}'
    (folder / "nginx").write_text(f"#!/bin/sh\n{told}\n{otherwise}\n")
    (folder / "nginx").chmod(0o755)
