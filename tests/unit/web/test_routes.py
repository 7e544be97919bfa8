"""The routes of a module: which are accepted, and which are refused."""

import sys
from pathlib import Path

import pytest

from slowpool.errors import ConfigError
from slowpool.web.routes import load_routes

GOOD = """
from slowpool.web import Handler, SlowHandler
class Fast(Handler): pass
class Slow(SlowHandler): pass
"""

REFUSED = [
    ("(r'/report', Slow)", "the pattern of a SlowHandler begins with /slow"),
    ("(r'/', Slow)", "change Slow or"),
    ("(r'/(slow)', Slow)", "change Slow or"),
    ("(r'/Slow', Slow)", "change Slow or"),
    ("(r'slow', Slow)", "change Slow or"),
    ("(r'/slow', Fast)", "change Fast or"),
    ("(r'/slowly', Fast)", "change Fast or"),
    ("(r'^/slow/x', Fast)", "change Fast or"),
    ("None", "None is not a route; write (pattern, handler class)"),
    ("'/fast'", "'/fast' is not a route"),
    ("()", "() is not a route"),
    ("(r'/fast',)", "is not a route"),
    ("(r'/fast', None)", "is not a route"),
    ("(r'/fast', int)", "is not a route"),
    ("(r'/fast', 7)", "is not a route"),
    ("(r'/fast', 'no.such.Handler')", "is not a route"),
    ("(r'/fast(', Fast)", "is not a route"),
    ("(7, Fast)", "is not a route"),
    ("(r'/fast', Fast, {}, 'name', 'more')", "is not a route"),
]


@pytest.mark.parametrize(("route", "reason"), REFUSED)
def test_a_wrong_route_is_refused_in_one_line(shop: Path, route: str, reason: str) -> None:
    shop.write_text(f"{GOOD}routes = [(r'/good', Fast), {route}]")
    assert reason in refusal("shop")


@pytest.mark.parametrize(
    ("routes", "module", "reason"),
    [
        ("", "shop", "the module has no list named 'routes'"),
        ("routes = None", "shop", "the module has no list named 'routes'"),
        ("routes = 'all of them'", "shop", "the module has no list named 'routes'"),
        ("", "no_such", "there is no module 'no_such'"),
        ("", "shop.no_such", "there is no module 'shop.no_such'"),
        ("import not_installed", "shop", "there is no module 'not_installed'"),
    ],
)
def test_a_module_without_routes_is_refused_in_one_line(
    shop: Path, routes: str, module: str, reason: str
) -> None:
    shop.write_text(routes)
    assert reason in refusal(module)


@pytest.mark.usefixtures("shop")
def test_a_missing_module_says_where_to_put_it() -> None:
    line = refusal("shop.routes")
    assert line.endswith("put your package in the working directory or install it with pip")


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module ``shop`` that can be imported in this test."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    return tmp_path / "shop.py"


def refusal(module: str) -> str:
    """The one line that says why the routes of this module are refused."""
    with pytest.raises(ConfigError) as raised:
        load_routes(module)
    line = str(raised.value)
    assert len(line.splitlines()) == 1, line
    assert line.startswith(f"ROUTES={module}: ")
    return line
