"""The demo's routes answer as their description says, whatever schemathesis sends to them through nginx."""

import io
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import Case
from schemathesis.config import SchemathesisConfig

from demo.openapi import DESCRIPTION
from tests.support.system import System

LARGEST_N = 200
"""What is sent for a larger ``n`` that is allowed, or for none: schemathesis likes the largest, of some
seconds each."""

# 504 is for the deadlines that it asks for. nginx answers TRACE itself, and knows nothing of what is allowed.
CONFIG = SchemathesisConfig.from_dict(
    {
        "checks": {"not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]}},
        "phases": {
            "coverage": {"unexpected-methods": ["put", "post", "delete", "options", "patch", "query"]}
        },
    }
)


def images(kind: str) -> st.SearchStrategy[bytes]:
    def encoded(size: tuple[int, int]) -> bytes:
        output = io.BytesIO()
        Image.new("RGB", size).save(output, kind)
        return output.getvalue()

    return st.builds(encoded, st.tuples(st.integers(1, 50), st.integers(1, 50)))


for kind in ("jpeg", "png", "webp"):
    schemathesis.openapi.media_type(f"image/{kind}", images(kind))

# They take their arguments as their likes do, and start an interpreter for each request.
schema = schemathesis.openapi.from_dict(DESCRIPTION, config=CONFIG).exclude(path=["/slow/process", "/plain"])


@schema.parametrize()
@settings(max_examples=settings().max_examples // 10, suppress_health_check=list(HealthCheck))
@pytest.mark.timeout(1800)  # for the long form
def test_each_route_answers_as_its_description_says(case: Case[Any], system: System) -> None:
    n = str(case.query.get("n", 2000))
    if n.isdecimal() and LARGEST_N < int(n) <= 20_000:
        case.query["n"] = LARGEST_N
    case.call_and_validate(base_url=f"http://127.0.0.1:{system.port}")
