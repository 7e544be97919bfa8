"""The description of the routes of the demo."""

import copy
import re

import schemathesis

from demo.openapi import DESCRIPTION
from demo.routes import routes
from slowpool.web.templates import route_template


def test_it_is_valid_openapi() -> None:
    schemathesis.openapi.from_dict(copy.deepcopy(DESCRIPTION)).validate()


def test_it_has_the_routes_that_there_are() -> None:
    templates = {route_template(route[0]) for route in routes}
    assert {re.sub(r"\{\w+\}", "{}", path) for path in DESCRIPTION["paths"]} == templates


def test_each_error_that_says_when_to_come_back_has_its_header() -> None:
    for status, response in DESCRIPTION["components"]["responses"].items():
        assert ("Retry-After" in response["headers"]) == (status in ("429", "503"))
        assert ("Allow" in response["headers"]) == (status == "405")
