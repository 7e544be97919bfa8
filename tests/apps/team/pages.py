"""Pages for people: templates, login with signed cookies, translations, error pages of its own."""

from typing import Any

from tornado import locale
from tornado.web import HTTPError, RequestHandler, UIModule, authenticated


class Page(RequestHandler):
    """A page that knows who has logged in and which language the browser asks for."""

    def get_current_user(self) -> str | None:
        user = self.get_signed_cookie("user")
        return user.decode() if user else None

    def get_user_locale(self) -> locale.Locale | None:
        lang = self.get_cookie("lang")
        return locale.get(lang) if lang else None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(f"<h1>The team is sorry: {status_code}</h1>")


class Card(UIModule):
    def render(self, title: str) -> str:
        return self.render_string("card.html", title=title).decode()

    def css_files(self) -> str:
        return "card.css"


class HomeHandler(Page):
    def get(self) -> None:
        self.render("home.html", names=["Ada", "<Grace>"])


class LoginHandler(Page):
    def get(self) -> None:
        self.render("login.html", next=self.get_argument("next", "/"))

    def post(self) -> None:
        if self.get_body_argument("password") != "open sesame":
            raise HTTPError(403)
        self.set_signed_cookie("user", self.get_body_argument("name"), httponly=True)
        self.redirect(self.get_body_argument("next", "/"))


class LogoutHandler(Page):
    def post(self) -> None:
        self.clear_cookie("user")
        self.redirect("/", status=303)


class AccountHandler(Page):
    @authenticated
    def get(self) -> None:
        self.write(f"account of {self.current_user}")

    @authenticated
    def post(self) -> None:
        self.write(f"changed by {self.current_user}")


class ContactHandler(Page):
    """A form with the XSRF cookie."""

    def get(self) -> None:
        self.render("contact.html")

    def post(self) -> None:
        self.write({"message": self.get_body_argument("message"), "tags": self.get_body_arguments("tag")})


class UnescapedHandler(Page):
    def get(self) -> None:
        self.render("unescaped.html", text="<b>")


class BrokenHandler(Page):
    def get(self) -> None:
        raise RuntimeError("on purpose")


class LinksHandler(Page):
    def get(self) -> None:
        names = {"note": self.reverse_url("note", 7), "report": self.reverse_url("report", "abc")}
        self.write({**names, "home": self.reverse_url("home"), "full": self.request.full_url()})


class AwayHandler(Page):
    def get(self) -> None:
        self.redirect("/account?from=/away", permanent=self.get_argument("permanent", "") == "1")


class MissingHandler(Page):
    """``default_handler_class``."""

    def prepare(self) -> None:
        raise HTTPError(404)
