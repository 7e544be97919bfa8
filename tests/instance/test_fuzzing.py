"""Arguments and preferences that hypothesis makes up, sent to an instance."""

import re
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from tests.support.client import request
from tests.support.process import Instance

ANY_BYTES = st.one_of(st.binary(max_size=100), st.text(max_size=100).map(str.encode))


@given(st.one_of(ANY_BYTES, st.from_regex(rb"\A\s?[A-Za-z0-9._-]{0,66}\s?\Z")))
def test_an_id_comes_back_as_it_was_sent_or_is_400(demo: Instance, value: bytes) -> None:
    response = demo.get(f"/fast?id={quote(value)}")
    if re.fullmatch(rb"[A-Za-z0-9._-]{1,64}", value):
        assert (response.status, response.text) == (200, f"fast result {value.decode()}")
    else:
        assert response.status == 400
        assert "id " in response.problem()["detail"]


@given(
    st.one_of(
        ANY_BYTES,
        st.integers().map(lambda n: b"%d" % n),
        st.sampled_from([b"0", b"1", b"20000", b"20001"]),
        st.from_regex(rb"\A\s?[-+]?[0-9]{1,20}\s?\Z"),
    )
)
def test_an_integer_is_taken_within_its_bounds_and_anything_else_is_400(demo: Instance, value: bytes) -> None:
    # With this deadline what is taken is 504 before any work is done.
    response = request(demo.port, f"/slow_threaded?id=7&n={quote(value)}", headers={"Prefer": "wait=0"})
    if re.fullmatch(rb"[0-9]{1,18}", value) and 1 <= int(value) <= 20_000:
        assert response.status == 504
    else:
        assert response.status == 400
        assert "n " in response.problem()["detail"]


TOKENS = st.from_regex(r"\A[A-Za-z]{1,8}\Z").filter(lambda name: name.lower() != "wait")

QUOTED = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20).map(
    lambda text: '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'
)

SPACES = st.sampled_from(["", " ", "\t"])

PREFERENCES = st.one_of(
    TOKENS,
    st.builds("{0}{1}={1}{2}".format, TOKENS, SPACES, TOKENS | QUOTED | st.just('", wait=1"')),
    st.builds("{0}{1};{1}{2}={3}".format, TOKENS, SPACES, TOKENS, QUOTED | st.just('", wait=1"')),
)


@given(
    st.lists(PREFERENCES, max_size=3),
    st.integers(1, 10**9 - 1),
    st.sampled_from(["wait={}", 'WAIT = "{}"', "Wait={};a=1"]),
    st.lists(st.one_of(PREFERENCES, st.just("wait=1")), max_size=3),
    SPACES,
)
def test_the_first_wait_of_any_preferences_counts(
    demo: Instance, before: list[str], seconds: int, form: str, after: list[str], space: str
) -> None:
    prefer = f"{space},{space}".join([*before, form.format(seconds), *after])
    response = request(demo.port, "/slow_threaded?id=7&n=1", headers={"Prefer": prefer})
    assert response.status == 200
    assert response.headers["Preference-Applied"] == (f"wait={seconds}" if seconds < 60 else None)


@given(
    st.one_of(
        st.sampled_from(["wait", "wait=", "wait=-1", "wait=soon", "wait=9999999999", "=1", '"', 'wait="1']),
        st.text(
            st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=50
        ),
    )
)
def test_a_preference_that_is_none_is_ignored(demo: Instance, text: str) -> None:
    response = request(demo.port, "/slow_threaded?id=7&n=1", headers={"Prefer": text})
    assert response.status == 200
