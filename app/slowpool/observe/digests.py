"""Digests of the settings: two instances find out which of theirs differ, and tell no values."""

import hashlib
import re

from slowpool.config import Config

MAY_DIFFER = {
    # Of the machine or the pool that an instance is in.
    *("slow_cpus", "slow_workers", "instance_max_rss_bytes", "fast_host", "slow_host"),
    "slow_sandbox",  # turned off by an instance whose system refuses it
    # Only nginx reads these, and its container has other values.
    *("http_port", "admin_port", "https_port", "tls_certificate", "tls_key", "admin_password_file"),
}
"""The settings that are not compared."""


def digests(config: Config) -> dict[str, str]:
    """Name -> eight hexadecimal digits of each setting that should be the same everywhere.

    They do not depend on what an address has before its ``@`` or behind its ``?``, which may be a secret.
    """
    return {
        name.upper(): hashlib.blake2b(_public(value).encode(), digest_size=4).hexdigest()
        for name, value in config.model_dump().items()
        if name not in MAY_DIFFER
    }


def differing(own: dict[str, str], other: dict[str, str]) -> list[str]:
    """The names of the settings that both have, with other values."""
    return [name for name, digest in own.items() if other.get(name, digest) != digest]


def _public(value: object) -> str:
    return re.sub(r"(?<=://)[^/]*@|\?.*", "", str(value))
