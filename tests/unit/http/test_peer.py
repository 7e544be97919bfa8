"""The client of a request."""

from tornado.httputil import HTTPHeaders

from slowpool.http import peer


def test_what_is_too_long_for_an_address_is_none_and_is_not_kept() -> None:
    peer._is_ip.cache_clear()
    for address, expected in {
        "192.0.2.1": "192.0.2.1",
        "2001:db8::1": "2001:db8::1",
        "1" * 60_000: "127.0.0.1",
        "0" * 62 + "192.0.2.1": "127.0.0.1",
    }.items():
        assert peer.peer(("127.0.0.1", 1), HTTPHeaders({"X-Real-IP": address})).remote_ip == expected
    assert peer._is_ip.cache_info().currsize == 2
