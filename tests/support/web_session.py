"""WebSession: a client that keeps cookies, as a browser does, and changes nothing else."""

import http.client
import re
from collections.abc import Iterable, Mapping
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urlsplit

from tests.support.client import Response, received


class WebSession:
    """Requests to one base URL, such as ``http://127.0.0.1:8080``; no redirect is followed."""

    def __init__(self, base: str, **cookies: str) -> None:
        self.base = base
        self.netloc = urlsplit(base).netloc
        self.cookies = cookies

    def __call__(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterable[bytes] | None = None,
    ) -> Response:
        """One request on a connection of its own; keeps the cookies of its answer."""
        connection = http.client.HTTPConnection(self.netloc, timeout=60)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request(
                method, target, body, {**({"Cookie": cookies} if cookies else {}), **(headers or {})}
            )
            response = received(connection.getresponse())
        finally:
            connection.close()
        for line in response.headers.get_all("Set-Cookie", []):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.coded_value
        return response

    def get(self, target: str, **headers: str) -> Response:
        """A GET; ``If_None_Match="x"`` is the header If-None-Match."""
        return self("GET", target, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, target: str, **form: str) -> Response:
        """POST a form."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self("POST", target, headers=headers, body=urlencode(form).encode())

    def token(self, page: str) -> str:
        """The XSRF token of the form on a page."""
        (found,) = re.findall(r'name="_xsrf" value="([^"]+)"', self.get(page).text)
        return str(found)

    def log_in(self, name: str) -> Response:
        """Log in at the page of the team's application."""
        token = self.token("/login?next=/account")
        return self.post("/login", name=name, password="open sesame", next="/account", _xsrf=token)
