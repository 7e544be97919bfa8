"""``python -S deploy/supervise/probe.py 8001 2``: exit status 0 when 2 instances, from port 8001, are ready.

Sockets alone: an engine runs this every few seconds, and a heavier start would cost the instances.
"""

import socket
import sys

TIMEOUT_SECONDS = 300
"""Longer than the engine's own timeout, which is the one that counts."""

first, count = int(sys.argv[1]), int(sys.argv[2])
for port in range(first, first + count):
    try:
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS) as connection:
            connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            status = connection.makefile("rb").readline()
    except OSError as error:
        sys.exit(f"port {port}: {error}")
    if not status.startswith(b"HTTP/1.1 200 "):
        sys.exit(f"port {port}: {status.decode(errors='replace').strip()}")
