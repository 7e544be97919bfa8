"""A fresh clone, on a machine that has Python and nothing else."""

import os
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.system import System, run_to_its_end
from tests.support import ROOT


@pytest.fixture
def clone() -> Iterator[Path]:
    """What a clone of the checkout would have, with what is not committed yet."""
    # pytest's own folders have paths too long for supervisor's socket.
    with tempfile.TemporaryDirectory(prefix="slowpool-") as folder:
        copy_checkout(Path(folder))
        yield Path(folder)


@pytest.mark.slow
def test_a_fresh_clone_installs_itself_and_answers(clone: Path) -> None:
    assert not (clone / ".venv").exists()
    with System(clone) as system:
        assert system.get("/fast?id=7").text == "fast result 7"
        assert system.get("/slow_threaded?id=7&n=9").status == 200
        assert f"slowpool: installs into {clone / '.venv'}" in system.output
    put_application_into(clone)
    with System(clone, ROUTES="shop") as own:
        assert own.get("/price").text == "7.50 of the helper"
        assert f"slowpool: installs into {clone / '.venv'}" in own.output
    with System(clone) as again:
        assert again.get("/fast?id=7").status == 200
        assert "installs" not in again.output
    (clone / "requirements.txt").write_text("./no-such.whl\n")
    done = run_to_its_end(clone)
    assert done.returncode == 1
    assert re.fullmatch(r"slowpool: pip install failed: .*no-such\.whl.*\n", done.stderr)


def test_without_a_network_it_is_one_clear_line_and_tried_again_next_time(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    for _ in range(2):
        done = run_to_its_end(clone)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("slowpool: pip install failed: ")
        assert done.stdout == f"slowpool: installs into {clone / '.venv'}\n"


def copy_checkout(folder: Path) -> None:
    """Copy what git knows or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def put_application_into(clone: Path) -> None:
    """A module beside ``app/`` that needs a package, which lies there as a wheel."""
    (clone / "shop.py").write_text(
        "import shop_helper\n"
        "from app.handlers import Handler\n\n\n"
        "class Price(Handler):\n"
        "    def get(self):\n"
        "        self.text(shop_helper.price())\n\n\n"
        'routes = [("/price", Price)]\n'
    )
    wheel = "shop_helper-1-py3-none-any.whl"
    info = "shop_helper-1.dist-info"
    with zipfile.ZipFile(clone / wheel, "w") as archive:
        archive.writestr("shop_helper.py", "def price():\n    return '7.50 of the helper'\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: shop-helper\nVersion: 1\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    (clone / "requirements.txt").write_text(f"./{wheel}\n")
