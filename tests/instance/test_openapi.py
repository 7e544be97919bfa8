"""The description of the demo's routes says what the routes do."""

import io
import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image

from demo.openapi import DESCRIPTION, Json
from tests.support.client import Response, request
from tests.support.process import Instance

OPERATIONS = [
    (path, method, operation)
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
]
INTEGERS = [
    (path, method, parameter["name"])
    for path, method, operation in OPERATIONS
    for parameter in operation["parameters"]
    if parameter["schema"]["type"] == "integer"
]


def test_it_is_served_as_json(demo: Instance) -> None:
    response = demo.get("/openapi.json")
    assert response.headers["Content-Type"].startswith("application/json")
    assert json.loads(response.body) == DESCRIPTION


@pytest.mark.parametrize("path", DESCRIPTION["paths"])
def test_it_has_the_methods_that_a_path_allows(demo: Instance, path: str) -> None:
    allowed = demo.get(path.format(file="style.css"), "DELETE").headers["Allow"]
    assert {method.upper() for method in DESCRIPTION["paths"][path]} == set(allowed.split(", "))


@pytest.mark.parametrize(("path", "method", "name"), INTEGERS)
def test_the_bounds_of_an_integer_are_those_of_the_route(
    demo: Instance, path: str, method: str, name: str
) -> None:
    operation = DESCRIPTION["paths"][path][method]
    bounds = parameter_of(operation, name)["schema"]
    for value, status in (
        (bounds["minimum"] - 1, 400),
        (bounds["minimum"], 200),
        (bounds["maximum"] + 1, 400),
    ):
        assert ask(demo, path, method, {name: value}).status == status
    if any(parameter["name"] == "Prefer" for parameter in operation["parameters"]):  # else it takes seconds
        assert ask(demo, path, method, {name: bounds["maximum"]}, {"Prefer": "wait=0"}).status == 504


@pytest.mark.parametrize("value", ["", "7", "a.b_c-D", "a" * 64, "a" * 65, "a b", "a\n", "ä", "a/b"])
def test_the_pattern_of_an_id_is_that_of_the_routes(demo: Instance, value: str) -> None:
    schema = parameter_of(DESCRIPTION["paths"]["/fast"]["get"], "id")["schema"]
    # "$" is Python's "\Z" in the regular expressions of JSON Schema, which are those of ECMAScript.
    right = re.search(schema["pattern"].replace("$", r"\Z"), value)
    assert ask(demo, "/fast", "get", {"id": value}).status == (200 if right else 400)


def parameter_of(operation: Json, name: str) -> Json:
    """The description of one parameter."""
    return next(parameter for parameter in operation["parameters"] if parameter["name"] == name)


def ask(
    demo: Instance, path: str, method: str, query: dict[str, Any], headers: dict[str, str] | None = None
) -> Response:
    """A request that is right but for what the query says."""
    output = io.BytesIO()
    Image.new("RGB", (1, 1)).save(output, "png")
    body = output.getvalue() if method == "post" else None
    target = f"{path}?{urlencode({'id': '7', **query})}"
    return request(demo.port, target, method.upper(), headers=headers, body=body)
