"""The names of routes."""

import pytest

from slowpool.http.request import route_template


@pytest.mark.parametrize(
    ("pattern", "template"),
    [
        (r"/fast", "/fast"),
        (r"^/fast$", "/fast"),
        (r"/static/(.*)", "/static/{}"),
        (r"/user/(?P<user>\w+)/order/(?P<order>\d+)", "/user/{user}/order/{order}"),
        (r"/a\.json", "/a.json"),
    ],
)
def test_a_route_is_named_by_its_template(pattern: str, template: str) -> None:
    assert route_template(pattern) == template
