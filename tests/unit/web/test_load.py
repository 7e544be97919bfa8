"""APP: what is found, and what is refused."""

import asyncio
import sys
from pathlib import Path

import pytest
from tornado.web import Application

from slowpool.errors import AppError, ConfigError
from slowpool.web.load import lifespan, load

REFUSED = [
    ("", "shop:app", "shop has no attribute 'app'"),
    ("app = None", "shop:app", "not NoneType"),
    ("app = 7", "shop:app", "not int"),
    ("app = {}", "shop:app.copy", "not dict"),
    ("def app(): pass", "shop:app", "not NoneType"),
    ("def app(): return app", "shop:app", "not function"),
    ("async def app(): return 'app'", "shop:app", "not str"),
    ("class Shop: pass", "shop:Shop", "not Shop"),
    ("", "no_such:app", "there is no module 'no_such'"),
    ("", "shop.no_such:app", "there is no module 'shop.no_such'"),
]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module ``shop`` that can be imported in this test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    return tmp_path / "shop.py"


@pytest.mark.parametrize(("text", "app", "reason"), REFUSED)
def test_what_is_no_application_is_refused_in_one_line(shop: Path, text: str, app: str, reason: str) -> None:
    shop.write_text(text)
    with pytest.raises(ConfigError) as raised:
        asyncio.run(load(app))
    line = str(raised.value)
    assert len(line.splitlines()) == 1, line
    assert line.startswith(f"APP={app}")
    assert reason in line


@pytest.mark.usefixtures("shop")
def test_a_missing_module_says_where_to_put_it() -> None:
    with pytest.raises(
        ConfigError, match=r"put your package in the working directory or install it with pip$"
    ):
        asyncio.run(load("shop.main:app"))


def test_the_object_that_is_named_is_the_one_that_is_served(shop: Path) -> None:
    shop.write_text("from tornado.web import Application\napp = Application()\ndef make_app(): return app\n")
    loaded = [asyncio.run(load(name)) for name in ("shop:app", "shop:make_app")]
    assert loaded[0] is loaded[1] is sys.modules["shop"].app


def test_what_an_application_raises_is_the_cause_and_its_traceback_begins_with_the_application(
    shop: Path,
) -> None:
    shop.write_text("def app():\n    raise OSError('no database')\n")
    with pytest.raises(AppError, match="APP=shop:app cannot be loaded: OSError: no database") as raised:
        asyncio.run(load("shop:app"))
    assert isinstance(raised.value.__cause__, OSError)
    _, first, *_ = raised.value.traceback.splitlines()
    assert 'shop.py", line 2, in app' in first


def test_an_application_sees_no_command_line_while_it_is_loaded(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["slowpool", "--pool=fast"])
    shop.write_text(
        "import sys\nfrom tornado.web import Application\ndef app(): return Application(argv=sys.argv[:])"
    )
    assert asyncio.run(load("shop:app")).settings["argv"] == ["slowpool"]
    assert sys.argv == ["slowpool", "--pool=fast"]


def test_the_lifespan_of_an_application_is_entered_and_left() -> None:
    class Resources:
        def __init__(self, app: Application) -> None:
            self.app = app

        async def __aenter__(self) -> None:
            self.app.settings["database"] = "open"

        async def __aexit__(self, *error: object) -> None:
            self.app.settings["database"] = "closed"

    async def scenario() -> None:
        app = Application(lifespan=Resources)
        async with lifespan("shop:app", app):
            assert app.settings["database"] == "open"
        assert app.settings["database"] == "closed"
        async with lifespan("shop:app", Application()):  # without one
            pass

    asyncio.run(scenario())
