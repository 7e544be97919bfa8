"""Forms, whose bodies come in pieces of any size."""

import pytest
from tornado.httputil import HTTPHeaders

from slowpool.errors import RequestError
from slowpool.http import forms
from tests.support.hostile_forms import (
    HONEST,
    LARGE,
    HostileForm,
    content_type,
    multipart,
)


@pytest.mark.parametrize("size", [1, 7, 1000, 65_536])
@pytest.mark.parametrize("form", HONEST, ids=lambda form: form.name)
def test_it_is_the_same_however_the_body_is_cut(form: HostileForm, size: int) -> None:
    body = form.body()
    assert outcome(form, body, max(size, len(body) // 20_000)) == form.status  # else 20 MB take a minute


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_delimiter_is_found_wherever_the_body_is_cut(size: int) -> None:
    headers = b'Content-Disposition: form-data; name="f"'
    for count, status in ((forms.MAX_PARTS, 200), (forms.MAX_PARTS + 1, 400)):
        body = multipart(b"x", *[(headers, b"--x\r-\r\n--")] * count)
        form = HostileForm("", status, content_type(b"x"), lambda body=body: body)  # type: ignore[misc]
        assert outcome(form, body, size) == status


def outcome(form: HostileForm, body: bytes, size: int) -> int:
    """The status that this body gets when it comes in pieces of this size."""
    try:
        received = forms.form(HTTPHeaders(form.headers), LARGE)
        if received:
            for start in range(0, len(body), size):
                received.feed(body[start : start + size])
            received.end()
    except RequestError as error:
        return error.status
    return 200
