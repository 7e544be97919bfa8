"""Notes what an instance sees of each request, as a line of JSON in the file ``$WITNESS``.

The answer is the name of that line, in a header and, for HTTP/0.9, in the body.
"""

import json
import os
import sys
import uuid

from tornado.web import Application, RequestHandler

POOL = next((option[len("--pool=") :] for option in sys.orig_argv if option.startswith("--pool=")), "")
"""The pool of this instance, which an application is not told."""


class WitnessHandler(RequestHandler):
    def prepare(self) -> None:
        self.name = uuid.uuid4().hex
        self.set_header("X-Witness", self.name)
        note(self)

    def get(self) -> None:
        self.finish(self.name)

    head = post = put = patch = delete = options = get


def note(handler: WitnessHandler) -> None:
    """Add a line, whole, whoever else does so at the same time."""
    request = handler.request
    seen = {
        "name": handler.name,
        "id": request.headers["X-Request-ID"],
        "pool": POOL,
        "method": request.method,
        "target": request.uri,
        "host": request.host,
        "client": request.remote_ip,
        "scheme": request.protocol,
        "headers": list(request.headers.get_all()),
        "body": request.body.decode("latin-1"),
    }
    file = os.open(os.environ["WITNESS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(file, f"{json.dumps(seen)}\n".encode())
    finally:
        os.close(file)


def make_app() -> Application:
    return Application([(r".*", WitnessHandler)])
