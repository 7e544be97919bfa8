"""Notes what an instance sees of each request, as a line of JSON in the file ``$WITNESS``.

The answer is the name of that line, in a header and, for HTTP/0.9, in the body.
"""

import json
import os
import uuid

from slowpool.http.request import request_id
from slowpool.web import Handler, SlowHandler


class WitnessHandler(Handler):
    def prepare(self) -> None:
        note(self)

    def get(self) -> None:
        self.text(str(self._headers["X-Witness"]))

    head = post = put = patch = delete = options = get


class SlowWitnessHandler(SlowHandler):
    def prepare(self) -> None:
        note(self)

    def get(self) -> None:
        self.text(str(self._headers["X-Witness"]))

    head = post = put = patch = delete = options = get


def note(handler: Handler) -> None:
    """Add a line, whole, whoever else does so at the same time."""
    name, request = uuid.uuid4().hex, handler.request
    handler.set_header("X-Witness", name)
    seen = {
        "name": name,
        "id": request_id(request),
        "pool": handler.application.runtime.instance.pool,
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


routes = [
    (r"/slow.*", SlowWitnessHandler),
    (r".*", WitnessHandler),
]
