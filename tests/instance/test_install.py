"""The installed package: its files, the command ``slowpool``, and the user's own package."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.basics import ROOT, environment
from tests.support.process import app_environment

PAGE = "from tornado.web import Application\n\n\ndef make_app():\n    return Application()\n"


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of a virtual environment with the package and, by reference, what it depends on."""
    folder = tmp_path_factory.mktemp("install") / "venv"
    source = folder.parent / "source"  # a copy, since a build leaves files in it
    shutil.copytree(ROOT / "app" / "slowpool", source / "app" / "slowpool")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps"]
    done = subprocess.run([*command, source], capture_output=True, text=True, timeout=100)
    if "Could not find a version that satisfies the requirement setuptools" in done.stderr:
        pytest.skip("pip cannot get setuptools here, which builds the package")
    assert done.returncode == 0, done.stderr
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


def run(bin_folder: Path, cwd: Path, *command: str, **settings: object) -> subprocess.CompletedProcess[str]:
    env = {**environment(settings), "PYTHONPATH": ""}
    return subprocess.run(
        [bin_folder / command[0], *command[1:]], cwd=cwd, env=env, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("start", [["slowpool"], ["python", "-m", "slowpool"]])
@pytest.mark.parametrize("command", ["serve", "status", "capacity", "check"])
def test_the_installed_package_has_every_command(
    bin_folder: Path, tmp_path: Path, start: list[str], command: str
) -> None:
    done = run(bin_folder, tmp_path, *start, command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: slowpool {command}" in done.stdout


def test_the_installed_package_has_the_files_of_the_status_page(bin_folder: Path) -> None:
    (installed,) = bin_folder.parent.glob("lib/python*/site-packages/slowpool/status/static")
    files = {str(file.relative_to(installed)) for file in installed.rglob("*") if file.is_file()}
    source = ROOT / "app/slowpool/status/static"
    assert files == {str(file.relative_to(source)) for file in source.rglob("*") if file.is_file()}


@pytest.mark.parametrize("start", [["slowpool"], ["python", "-m", "slowpool"]])
def test_an_installed_slowpool_serves_a_package_app_of_the_working_directory(
    bin_folder: Path, tmp_path: Path, start: list[str]
) -> None:
    write_app(tmp_path)
    done = run(bin_folder, tmp_path, *start, "check", APP="app.main:make_app")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_installed_slowpool_finds_no_local_run(bin_folder: Path, tmp_path: Path) -> None:
    script = (
        "import slowpool.local_run as it; from slowpool.config import Config; "
        "print('site-packages' in it.__file__, it.Run.find(Config.load()))"
    )
    done = run(bin_folder, tmp_path, "python", "-c", script)
    assert (done.stdout, done.stderr) == ("True None\n", "")


def test_a_package_app_in_the_source_folder_of_a_checkout_is_served(tmp_path: Path) -> None:
    write_app(tmp_path / "app")
    env = {
        **app_environment(tmp_path, {"APP": "app.main:make_app"}),
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "app"), str(ROOT / "app")]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "slowpool", "check"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def write_app(folder: Path) -> None:
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "main.py").write_text(PAGE)
