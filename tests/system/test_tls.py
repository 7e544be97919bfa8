"""TLS and HTTP/2 at the edge."""

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.basics import wait_until
from tests.support.certificate import make_certificate, needs_openssl
from tests.support.client import Response, exchange, received
from tests.support.gate import Gate
from tests.support.http2 import Http2
from tests.support.nginx import nginx_faults
from tests.support.system import ONE_EACH, System, is_ready

pytestmark = needs_openssl

TESTSSL = shutil.which("testssl") or shutil.which("testssl.sh")
PROTOCOLS = {
    "SSLv2": "not offered",
    "SSLv3": "not offered",
    "TLS1": "not offered",
    "TLS1_1": "not offered",
    "TLS1_2": "offered",
    "TLS1_3": "offered",
}
MEANT = {
    "cipher_order",  # by Mozilla's guideline the client chooses: all that are offered are strong
    "cert_chain_of_trust",  # the test has signed the certificate itself,
    "cert_revocation",  # so nobody could revoke it
    "sessionresumption_ticket",  # there are no tickets to try it with
    "engine_problem",  # testssl has its own OpenSSL, without GOST
}


class Certificate:
    """A certificate of ``localhost`` and its key, in files."""

    def __init__(self, folder: Path) -> None:
        self.file, self.key = folder / "certificate.pem", folder / "key.pem"
        self.renew()

    def renew(self) -> None:
        """Write another one into the same files."""
        make_certificate(self.file, self.key)

    def trusting(self) -> ssl.SSLContext:
        """A client's context that takes it, and no other."""
        return ssl.create_default_context(cafile=str(self.file))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def secure(certificate: Certificate) -> Iterator[System]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HTTP2", "on")  # whatever the version of this machine's nginx
        secure = System(
            APP="tests.apps.controlled:make_app", TLS_CERTIFICATE=certificate.file, TLS_KEY=certificate.key
        )
    with secure:
        yield secure


def port(system: System) -> int:
    return int(str(system.settings["HTTPS_PORT"]))


def connect(system: System, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    return http.client.HTTPSConnection("localhost", port(system), context=context, timeout=30)


def get(system: System, certificate: Certificate, target: str) -> Response:
    """One request over TLS and HTTP/1.1."""
    connection = connect(system, certificate.trusting())
    try:
        connection.request("GET", target)
        return received(connection.getresponse())
    finally:
        connection.close()


def test_the_instance_is_told_of_https_and_the_client_to_stay_with_it(
    secure: System, certificate: Certificate
) -> None:
    response = get(secure, certificate, "/client")
    assert response.text == f"127.0.0.1 https localhost:{port(secure)}"
    for target in ("/client", "/slow/echo", "/nothing"):
        headers = get(secure, certificate, target).headers
        assert headers.get_all("Strict-Transport-Security") == ["max-age=63072000"]
        assert len(headers.get_all("X-Request-ID") or []) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_plain_port_sends_everybody_to_the_other_and_serves_nothing(secure: System, method: str) -> None:
    response = secure.get("/slow/echo//a?b=%2F", method)
    assert response.status == 308
    assert response.headers["Location"] == f"https://127.0.0.1:{port(secure)}/slow/echo//a?b=%2F"
    assert "Strict-Transport-Security" not in response.headers  # RFC 6797, 7.2


@pytest.mark.parametrize("host", [b"", b"Host:\r\n", b"Host: \r\n"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_without_a_name_there_is_nowhere_to_send_a_client_to(
    secure: System, version: bytes, host: bytes
) -> None:
    response = exchange(secure.port, b"GET /echo HTTP/" + version + b"\r\n" + host + b"\r\n")
    assert response.status == 400
    assert response.problem()["title"] == "Bad Request"
    assert "Location" not in response.headers


@pytest.mark.parametrize("data", [b"GET /echo HTTP/1.1\r\nHost: a\r\n\r\n", b"nonsense\r\n\r\n"])
def test_an_answer_without_tls_at_the_tls_port_has_no_hsts(secure: System, data: bytes) -> None:
    response = exchange(port(secure), data)
    assert response.status == 400
    assert response.problem()
    assert "Strict-Transport-Security" not in response.headers


@pytest.mark.parametrize("body", [b"x", b"", None])
def test_a_body_without_a_length_ends_one_instance_at_most(
    secure: System, certificate: Certificate, gate: Gate, body: bytes | None
) -> None:
    """Over HTTP/2 a body need not be announced."""
    with Http2(port(secure), certificate.trusting()) as client:
        stream = client.ask(gate("/wait"), body=body)
        gate.wait_for(1)
        os.kill(gate.entered[0], signal.SIGKILL)
        if body:
            assert client.answer(stream).status == 502
            assert len(gate.entered) == 1
        else:
            gate.wait_for(2)
            gate.open()
            assert client.answer(stream).text == "released"
    wait_until(lambda: all(map(is_ready, secure.instances("fast"))))


def test_both_pools_answer_over_http_2(secure: System, certificate: Certificate) -> None:
    with Http2(port(secure), certificate.trusting()) as client:
        streams = {target: client.ask(target) for target in ("/echo", "/slow/echo", "/body")}
        for target in ("/echo", "/slow/echo"):
            response = client.answer(streams[target])
            assert (response.status, response.text) == (200, target)


def test_a_stream_that_is_cancelled_frees_its_worker_and_leaves_the_others(
    secure: System, certificate: Certificate, gate: Gate, tmp_path: Path
) -> None:
    other = Gate(tmp_path / "other")
    with Http2(port(secure), certificate.trusting()) as client:
        kept, cancelled = client.ask(other("/slow/task")), client.ask(gate("/slow/task"))
        for opened in (gate, other):
            opened.wait_for(1)
        client.cancel(cancelled)
        wait_until(lambda: not psutil.pid_exists(gate.entered[0]))
        secure.wait_for_output(r'whose job was given up".*"route": "/slow/task"')
        other.open()
        assert client.answer(kept).text == "released"


def test_a_tls_connection_that_is_closed_frees_its_worker(
    secure: System, certificate: Certificate, gate: Gate
) -> None:
    connection = connect(secure, certificate.trusting())
    connection.request("GET", gate("/slow/task"))
    gate.wait_for(1)
    assert psutil.pid_exists(gate.entered[0])
    connection.close()
    wait_until(lambda: not psutil.pid_exists(gate.entered[0]))


def test_the_streams_of_a_connection_count_as_the_clients_slow_requests(
    secure: System, certificate: Certificate, gate: Gate
) -> None:
    with Http2(port(secure), certificate.trusting()) as client:
        allowed = [client.ask(gate("/slow/task")) for _ in range(4)]
        gate.wait_for(2)
        refused = client.answer(client.ask(gate("/slow/task")))
        assert (refused.status, refused.headers["Retry-After"]) == (429, "1")
        gate.open()
        assert [client.answer(stream).status for stream in allowed] == [200] * 4


def test_a_certificate_that_is_renewed_is_picked_up_by_a_reload(
    secure: System, certificate: Certificate
) -> None:
    old = certificate.trusting()
    certificate.renew()
    assert get_with(secure, old) == 200
    nginx = psutil.Process(int(secure.program("nginx")["pid"]))
    nginx.send_signal(signal.SIGHUP)
    new = certificate.trusting()
    wait_until(lambda: get_with(secure, new) == 200)
    wait_until(lambda: get_with(secure, old) == 0)


@pytest.mark.skipif(not nginx_faults(), reason="this machine's nginx has no known faults")
def test_an_nginx_with_known_faults_is_named_and_does_without_http_2(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HTTP2", raising=False)
    with System(TLS_CERTIFICATE=certificate.file, TLS_KEY=certificate.key, **ONE_EACH) as system:
        context = certificate.trusting()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", port(system)), timeout=30) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            assert connection.selected_alpn_protocol() == "http/1.1"
        assert get(system, certificate, "/fast?id=7").text == "fast result 7"
        (line,) = [json.loads(line) for line in system.output.splitlines() if "known faults" in line]
        assert line["level"] == "WARNING"
        assert line["message"].endswith(
            "none of HTTP/2, which is off, but CVE-2026-118899 (TLS 1.3: a worker process loops for ever)"
        )


def get_with(system: System, context: ssl.SSLContext) -> int:
    """The status of a request; 0 when the certificate is not one that the context trusts."""
    connection = connect(system, context)
    try:
        connection.request("GET", "/echo")
        return received(connection.getresponse()).status
    except ssl.SSLCertVerificationError:
        return 0
    finally:
        connection.close()


def test_a_cipher_without_authenticated_encryption_is_refused(
    secure: System, certificate: Certificate
) -> None:
    context = certificate.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert get_with(secure, context) == 200
    context.set_ciphers("ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        get_with(secure, context)


@pytest.mark.long
@pytest.mark.skipif(not TESTSSL, reason="there is no testssl; install it: apt install testssl.sh")
@pytest.mark.timeout(180)
def test_testssl_finds_no_weakness(secure: System, tmp_path: Path, testssl_all: bool) -> None:
    report = tmp_path / "testssl.json"
    checks = [] if testssl_all else ["--protocols", "--headers"]
    command = [str(TESTSSL), "--quiet", "--warnings=off", "--nodns=min", f"--jsonfile={report}", *checks]
    subprocess.run(
        [*command, f"localhost:{port(secure)}"], capture_output=True, stdin=subprocess.DEVNULL, timeout=170
    )
    found = {finding["id"]: finding for finding in json.loads(report.read_text())}
    assert {name: found[name]["finding"].split(" with")[0] for name in PROTOCOLS} == PROTOCOLS
    assert found["HSTS_time"]["severity"] == "OK"
    weak = {name: found[name] for name in found if found[name]["severity"] not in ("OK", "INFO", "LOW")}
    assert weak.keys() <= MEANT, weak
