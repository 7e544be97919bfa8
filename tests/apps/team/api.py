"""JSON for programs, and handlers that override Tornado's hooks without calling the base class."""

import asyncio
import json
from typing import Any

from tornado import gen
from tornado.web import HTTPError, RequestHandler


class Api(RequestHandler):
    """Programs send no XSRF token."""

    @property
    def team(self) -> Any:
        """The application, a Team."""
        return self.application

    def check_xsrf_cookie(self) -> None:
        pass

    def audit(self, what: str) -> None:
        """Record that something has happened, in the database that all processes share."""
        key = self.get_argument("key", "")
        self.team.db.execute("INSERT INTO audit VALUES (?, ?)", (what, key))


class StatusHandler(Api):
    def get(self) -> None:
        self.write({"status": "of the team", "motto": self.settings["motto"]})


class MetricsHandler(Api):
    def get(self) -> None:
        self.set_header("Content-Type", "text/plain")
        self.write(f"team_requests_logged {self.team.logged}\n")


class LivezHandler(Api):
    def get(self) -> None:
        self.write("the team lives")


class NotesHandler(Api):
    def get(self) -> None:
        rows = self.team.db.execute("SELECT id, text FROM notes ORDER BY id")
        self.write({"notes": [{"id": number, "text": text} for number, text in rows]})

    def post(self) -> None:
        text = json.loads(self.request.body)["text"]
        done = self.team.db.execute("INSERT INTO notes (text) VALUES (?)", (text,))
        self.set_status(201)
        self.set_header("Location", self.reverse_url("note", done.lastrowid))
        self.write({"id": done.lastrowid})


class NoteHandler(Api):
    SUPPORTED_METHODS = (*RequestHandler.SUPPORTED_METHODS, "PURGE")

    def get(self, number: str) -> None:
        self.write({"id": int(number), "text": self._text(number)})

    def put(self, number: str) -> None:
        self._save(number, json.loads(self.request.body)["text"])

    def patch(self, number: str) -> None:
        self._save(number, self._text(number) + json.loads(self.request.body)["append"])

    def delete(self, number: str) -> None:
        self._text(number)
        self.team.db.execute("DELETE FROM notes WHERE id = ?", (number,))
        self.set_status(204)

    def options(self, number: str) -> None:
        self.set_header("Allow", "GET, PUT, PATCH, DELETE, OPTIONS")
        self.set_status(204)

    def purge(self, number: str) -> None:
        self.write(f"purged {number}")

    def _text(self, number: str) -> str:
        query = "SELECT text FROM notes WHERE id = ?"
        row = self.team.db.execute(query, (number,)).fetchone()
        if row is None:
            raise HTTPError(404, reason="No such note")
        return str(row[0])

    def _save(self, number: str, text: str) -> None:
        query = "UPDATE notes SET text = ? WHERE id = ?"
        self.team.db.execute(query, (text, number))
        self.write({"id": int(number), "text": text})


class EchoHandler(Api):
    """Tells what has arrived."""

    def _echo(self) -> None:
        request = self.request
        arguments = {name: self.get_arguments(name) for name in request.arguments}
        body = request.body.decode("latin-1") if len(request.body) < 100_000 else len(request.body)
        headers = {name: request.headers.get_list(name) for name in request.headers}
        answer = {"method": request.method, "uri": request.uri, "arguments": arguments, "body": body}
        address = {"ip": request.remote_ip, "protocol": request.protocol, "host": request.host}
        self.write({**answer, **address, "headers": headers})

    def get(self) -> None:
        self._echo()

    def post(self) -> None:
        self._echo()


class LongCookieHandler(Api):
    def get(self) -> None:
        self.set_cookie("preferences", "p" * 5000)
        self.set_cookie("second", "2")
        self.add_header("X-Team", "one")
        self.add_header("X-Team", "two")
        self.write("a long cookie")


class HooksHandler(Api):
    """Overrides the hooks, and calls none of the base class."""

    def initialize(self) -> None:
        self.prepared = False

    def set_default_headers(self) -> None:
        self.set_header("Server", "team/1")

    async def prepare(self) -> None:
        await asyncio.sleep(0)
        self.prepared = True

    def get(self) -> None:
        self.set_header("X-Prepared", str(self.prepared))
        self.write("hooks")

    def on_finish(self) -> None:
        self.audit("finished")

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        pass

    def data_received(self, chunk: bytes) -> None:
        pass


class AuditHandler(Api):
    def get(self) -> None:
        query = "SELECT what FROM audit WHERE key = ?"
        rows = self.team.db.execute(query, (self.get_argument("key"),))
        self.write({"audit": [what for (what,) in rows]})


class LegacyHandler(Api):
    """A decorated coroutine, as before ``async def``."""

    @gen.coroutine
    def get(self) -> Any:
        yield gen.sleep(0.001)
        first, second = yield [gen.maybe_future(1), gen.maybe_future(2)]
        self.write(f"legacy {first + second}")


class DocumentHandler(Api):
    """With an Etag, and HEAD."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/plain")
        self.write("a document")

    def head(self) -> None:
        self.set_header("X-Document", "yes")
        self.set_header("Content-Length", str(len("a document")))


class BigHandler(Api):
    def get(self) -> None:
        self.set_header("Content-Type", "application/octet-stream")
        self.write(bytes(range(256)) * 20_000)


class FilesHandler(Api):
    """Tells the path as it has come."""

    def get(self, name: str) -> None:
        self.write({"path": self.request.path, "name": name})


class AdminHandler(Api):
    """In a nested application."""

    def get(self) -> None:
        self.write(f"admin of {len(self.application.settings)} settings")


class AdminMissing(Api):
    def get(self) -> None:
        self.set_status(404)
        self.write("the admin has no such page")


class ApiRootHandler(Api):
    """Only under the host name of the API."""

    def get(self) -> None:
        self.write({"api": self.request.host_name})
