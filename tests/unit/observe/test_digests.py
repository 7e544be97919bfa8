"""Settings are compared without their values."""

import json

import pytest

from slowpool.config import Config
from slowpool.observe.digests import differing, digests

pytestmark = pytest.mark.usefixtures("nothing_set")


def test_the_settings_that_differ_are_named() -> None:
    own, other = digests(Config()), digests(Config(slow_queue=9, log_level="debug"))
    assert differing(own, own) == []
    assert sorted(differing(own, other)) == ["LOG_LEVEL", "SLOW_QUEUE"]


def test_what_belongs_to_a_machine_or_to_nginx_is_not_compared() -> None:
    other = Config(slow_workers=7, instance_max_rss_bytes=1 << 30, fast_host="fast", http_port=1)
    assert differing(digests(Config()), digests(other)) == []


def test_a_setting_that_only_one_release_has_does_not_differ() -> None:
    own = digests(Config())
    assert differing({**own, "NEW": "00000000"}, own) == []
    assert differing(own, {**own, "NEW": "00000000"}) == []


def test_nothing_depends_on_a_password_and_no_value_is_told() -> None:
    one = digests(Config(jobs_url="valkey://user:secret@cache:6379/0"))
    other = digests(Config(jobs_url="valkey://user:other@cache:6379/0"))
    assert one == other
    assert differing(one, digests(Config(jobs_url="valkey://user:secret@another:6379/0"))) == ["JOBS_URL"]
    url = "http://collector:4318"
    assert digests(Config(otel_exporter_otlp_endpoint=f"{url}?key=1")) == digests(
        Config(otel_exporter_otlp_endpoint=f"{url}?key=2")
    )
    text = json.dumps(digests(Config(app="shop.main:make_app")))
    assert "shop" not in text
    assert all(len(digest) == 8 for digest in one.values())
