"""Stores of accepted jobs: a file, and a real Valkey or Redis server."""

import asyncio
import dataclasses
import os
import secrets
import shutil
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from slowpool.jobs.record import NewJob, Request
from slowpool.jobs.sqlite import SqliteStore
from slowpool.jobs.store import Bounds, Store
from slowpool.jobs.valkey import ValkeyStore
from tests.support.basics import ROOT, free_ports, wait_until
from tests.support.process import Process

BOUNDS = Bounds(waiting=1000, total_bytes=100_000_000, result_seconds=3600, lease_seconds=3600)

VALKEY = shutil.which("valkey-server") or shutil.which("redis-server")
NO_VALKEY = "there is no valkey-server or redis-server; install one: apt install redis-server"

HANG_SECONDS = 30

T = TypeVar("T")


class Place:
    """Where a test keeps jobs. Each store of it is another instance's."""

    def new_store(self, bounds: Bounds) -> Store:
        """A store there, which is not open."""
        raise NotImplementedError

    def run(self, *scenarios: Callable[[Store], Awaitable[None]], **bounds: Any) -> None:
        """Run each scenario with a store of its own, one after the other."""
        for scenario in scenarios:
            asyncio.run(self._run(scenario, **bounds))

    async def _run(self, scenario: Callable[[Store], Awaitable[None]], **bounds: Any) -> None:
        store = self.store(**bounds)
        await store.open()
        try:
            await scenario(store)
        finally:
            await store.close()

    def store(self, **bounds: Any) -> Store:
        """A store with bounds that are wide, except these."""
        return self.new_store(dataclasses.replace(BOUNDS, **bounds))

    async def beside(self, work: Callable[[Store], Awaitable[T]], **bounds: Any) -> T:
        """What another instance gets from its store."""
        result: list[T] = []

        async def scenario(store: Store) -> None:
            result.append(await work(store))

        await self._run(scenario, **bounds)
        return result[0]


class FilePlace(Place):
    """A file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def new_store(self, bounds: Bounds) -> Store:
        return SqliteStore(self.file, bounds)


class ServerPlace(Place):
    """A server. ``user`` stands before the host in its URL."""

    def __init__(self, port: int, user: str = "") -> None:
        self.port = port
        self.user = user

    def new_store(self, bounds: Bounds) -> Store:
        return ValkeyStore(f"valkey://{self.user}127.0.0.1:{self.port}/0", bounds)


class ValkeyServer(Process):
    """A server that keeps its data in a folder, and answers once entered. Leaving it is ``kill -9``."""

    def __init__(self, folder: Path, *options: str, port: int = 0) -> None:
        self.port = port or free_ports()
        folder.mkdir(exist_ok=True)
        assert VALKEY
        on_disk = ["--dir", str(folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        command = [VALKEY, "--bind", "127.0.0.1", "--port", str(self.port), *on_disk, *options]
        super().__init__(command, ROOT, os.environ)

    def wait_until_up(self) -> None:
        wait_until(lambda: self.ask("PING").startswith((b"+PONG", b"-NOAUTH")))

    def ask(self, command: str) -> bytes:
        """The answer to a command; empty while it does not listen."""
        assert self.running, self.output
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=HANG_SECONDS) as connection:
                connection.sendall(f"{command}\r\n".encode())
                return connection.recv(65_536)
        except ConnectionError:
            return b""


def new_job(number: int = 0, *, body: bytes = b"", **values: Any) -> NewJob:
    """A job whose request has this number; it may run twice."""
    request = Request("POST", f"/report?id={number}", [("Accept", "*/*")], body)
    return NewJob(**{"id": secrets.token_hex(16), "request": request, "repeatable": True, **values})


async def eventually(call: Callable[[], Awaitable[T | None]]) -> T:
    """What a call returns, once that is true; TimeoutError when it never is."""
    async with asyncio.timeout(HANG_SECONDS):
        while not (result := await call()):
            await asyncio.sleep(0.005)
    return result
