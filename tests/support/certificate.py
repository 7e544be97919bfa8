"""Certificates for the tests, which sign them themselves."""

import shutil
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(
    not shutil.which("openssl"),
    reason="there is no openssl to make certificates; install it: apt install openssl",
)


def make_certificate(certificate: Path, key: Path) -> None:
    """Write a certificate of ``localhost`` and its key into these files, in place of what they hold."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "90", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-addext", "extendedKeyUsage=serverAuth"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
