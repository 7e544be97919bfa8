"""An application that opens a connection, and starts a process, when it is imported."""

import socket
import subprocess

ends = socket.socketpair()
helper = subprocess.Popen(["sleep", "3600"])


def make_app() -> None: ...
