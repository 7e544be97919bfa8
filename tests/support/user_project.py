"""What a team puts beside ``app/``: a package of its own that needs a package without a wheel."""

import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.support.client import Response

APP = "shop.main:make_app"
"""Its ``/price`` answers with PRICE, and ``/variable?name=NAME`` with a variable of the environment."""

PRICE = "7.50 of the helper"

ENV_FILE = """
SHOP_KEY='a$b#c d'
SHOP_EMPTY=
shop_lower=1
REPLICA=blue
RESOLVER=mine
DEBUG=yes
"""

VARIABLES = {
    "SHOP_KEY": "a$b#c d",
    "SHOP_EMPTY": "",
    "shop_lower": "1",
    "REPLICA": "blue",
    "RESOLVER": "mine",  # also of nginx
    "DEBUG": "yes",  # also a setting
    "SLOW_MAX_JOBS": None,  # a setting that is not set
}
"""Of the application's environment with ENV_FILE as ``.env``, where LEFT_TO_FILE are set nowhere else."""

LEFT_TO_FILE = ["DEBUG", "SLOW_MAX_JOBS"]

MAIN = """
import os

import shop_helper
from tornado.web import Application, RequestHandler


class Price(RequestHandler):
    def get(self):
        self.render("price.html", price=shop_helper.price())


class Variable(RequestHandler):
    def get(self):
        self.write(repr(os.environ.get(self.get_argument("name"))))


def make_app():
    folder = os.path.dirname(__file__)
    return Application(
        [("/price", Price), ("/variable", Variable)], template_path=os.path.join(folder, "templates")
    )
"""

BACKEND = """
import zipfile

INFO = "shop_helper-1.dist-info"


def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "shop_helper-1-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        wheel.write("shop_helper.py")
        wheel.writestr(INFO + "/METADATA", "Metadata-Version: 2.1\\nName: shop-helper\\nVersion: 1\\n")
        wheel.writestr(INFO + "/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(INFO + "/RECORD", "")
    return name
"""
"""Builds the wheel and needs no other package: a test has no index to get one from."""


def put_project_into(folder: Path) -> None:
    """Write the package ``shop``, what it needs as a source distribution, and ``.env``."""
    (folder / ".env").write_text(ENV_FILE)
    (folder / "shop" / "templates").mkdir(parents=True)
    (folder / "shop" / "__init__.py").touch()
    (folder / "shop" / "main.py").write_text(MAIN)
    (folder / "shop" / "templates" / "price.html").write_text("{{ price }}")
    (folder / "vendor").mkdir()
    make_sdist(folder / "vendor" / "shop_helper-1.tar.gz")
    (folder / "requirements.txt").write_text("./vendor/shop_helper-1.tar.gz\n")


def check_answers(get: Callable[[str], Response]) -> None:
    """The application has its template and its package, and sees the variables."""
    assert get("/price").text == PRICE
    for name, value in VARIABLES.items():
        assert (name, get(f"/variable?name={name}").text) == (name, repr(value))


def make_sdist(file: Path) -> None:
    """Make the source distribution of the package ``shop_helper``."""
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    with tempfile.TemporaryDirectory(prefix="slowpool-") as name, tarfile.open(file, "w:gz") as sdist:
        folder = Path(name)
        (folder / "pyproject.toml").write_text(project)
        (folder / "backend.py").write_text(BACKEND)
        (folder / "shop_helper.py").write_text(f"def price():\n    return {PRICE!r}\n")
        (folder / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: shop-helper\nVersion: 1\n")
        sdist.add(folder, "shop_helper-1")
