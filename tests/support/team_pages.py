"""What tests/apps/team promises to browsers and programs: checks of a base URL, for every server of it."""

import gzip
import json
import re
import uuid

from tests.support.basics import wait_until
from tests.support.web_session import WebSession


def a_page_is_rendered_with_ui_modules_and_methods(base: str) -> None:
    page = WebSession(base).get("/").text
    assert "<h1>Welcome</h1>" in page
    assert "HELLO! en" in page
    assert '<div class="card">Ada</div>' in page
    assert '<div class="card">&lt;Grace&gt;</div>' in page
    assert "<hr>" in page
    assert re.search(r'<link href="/static/card\.css\?v=\w+"', page), "the module's style"


def a_page_is_translated_by_header_and_by_cookie(base: str) -> None:
    assert "<h1>Willkommen</h1>" in WebSession(base).get("/", Accept_Language="de-DE,de;q=0.9").text
    assert "<h1>Willkommen</h1>" in WebSession(base, lang="de_DE").get("/").text


def a_template_may_turn_escaping_off(base: str) -> None:
    assert WebSession(base).get("/unescaped").text.split() == ["<b>", "&lt;b&gt;"]


def a_page_is_compressed_when_the_client_takes_it(base: str) -> None:
    response = WebSession(base).get("/metrics?" + "x" * 2000, Accept_Encoding="gzip")
    page = WebSession(base).get("/stream?lines=500", Accept_Encoding="gzip")
    assert "Content-Encoding" not in response.headers, "too short to compress"
    assert page.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in page.headers["Vary"]
    assert gzip.decompress(page.body).startswith(b"line 0\nline 1\n")


def a_login_sets_a_signed_cookie(base: str) -> None:
    session = WebSession(base)
    response = session.log_in("ada")
    assert (response.status, response.headers["Location"]) == (302, "/account")
    assert session.get("/account").text == "account of ada"
    assert "<p>user ada</p>" in session.get("/").text
    assert session.post("/account", _xsrf=session.token("/contact")).text == "changed by ada"


def a_wrong_password_is_answered_with_the_applications_own_page(base: str) -> None:
    session = WebSession(base)
    response = session.post("/login", name="ada", password="x", _xsrf=session.token("/login"))
    assert (response.status, response.text) == (403, "<h1>The team is sorry: 403</h1>")


def who_is_not_logged_in_is_sent_to_the_login(base: str) -> None:
    response = WebSession(base).get("/account?a=1")
    assert (response.status, response.headers["Location"]) == (302, "/login?next=%2Faccount%3Fa%3D1")
    session = WebSession(base)
    assert session.post("/account", _xsrf=session.token("/contact")).status == 403


def a_forged_cookie_is_not_believed(base: str) -> None:
    session = WebSession(base)
    session.log_in("ada")
    session.cookies["user"] = session.cookies["user"][:-3] + "abc"
    assert session.get("/account").status == 302


def a_logout_clears_the_cookie(base: str) -> None:
    session = WebSession(base)
    session.log_in("ada")
    assert session.post("/logout", _xsrf=session.token("/contact")).status == 303
    assert session.get("/account").status == 302


def a_form_needs_its_xsrf_token(base: str) -> None:
    session = WebSession(base)
    token = session.token("/contact")
    assert session.post("/contact", message="hi").status == 403
    assert session.post("/contact", message="hi", _xsrf="2|abc|def|1").status == 403
    assert json.loads(session.post("/contact", message="hi ü", _xsrf=token).text)["message"] == "hi ü"
    sent = session("POST", "/contact", headers={"X-Xsrftoken": token, **FORM}, body=b"message=1&tag=a&tag=b")
    assert json.loads(sent.text) == {"message": "1", "tags": ["a", "b"]}


def a_static_file_has_a_version_and_may_be_cached(base: str) -> None:
    session = WebSession(base)
    (url,) = re.findall(r'"(/static/style\.css\?v=[0-9a-f]+)"', session.get("/").text)
    response = session.get(url)
    assert response.text == "body { color: black; }\n"
    assert response.headers["Content-Type"] == "text/css"
    assert "max-age=" in response.headers["Cache-Control"]
    again = session.get(url, If_None_Match=response.headers["Etag"])
    assert (again.status, again.body) == (304, b"")
    assert session.get(url, If_Modified_Since=response.headers["Last-Modified"]).status == 304


def a_static_file_is_sent_in_ranges(base: str) -> None:
    session = WebSession(base)
    part = session.get("/static/digits.txt", Range="bytes=5-14")
    assert (part.status, part.text) == (206, "5678901234")
    assert part.headers["Content-Range"] == "bytes 5-14/10000"
    assert session.get("/static/digits.txt", Range="bytes=-3").text == "789"
    assert session.get("/static/digits.txt", Range="bytes=20000-").status == 416
    head = session("HEAD", "/static/digits.txt")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "10000", b"")
    assert session.get("/static/../main.py").status in (403, 404)


def a_document_has_an_etag_and_head(base: str) -> None:
    session = WebSession(base)
    response = session.get("/document")
    assert session.get("/document", If_None_Match=response.headers["Etag"]).status == 304
    head = session("HEAD", "/document")
    assert (head.status, head.headers["X-Document"], head.headers["Content-Length"]) == (200, "yes", "10")
    assert session("HEAD", "/notes").status == 405, "a handler without head()"


def a_note_is_made_read_changed_and_deleted(base: str) -> None:
    session = WebSession(base)
    made = session("POST", "/notes", body=b'{"text": "one"}')
    url = made.headers["Location"]
    assert (made.status, url) == (201, f"/notes/{json.loads(made.text)['id']}")
    assert json.loads(session.get(url).text)["text"] == "one"
    assert json.loads(session("PUT", url, body=b'{"text": "two"}').text)["text"] == "two"
    assert json.loads(session("PATCH", url, body=b'{"append": "!"}').text)["text"] == "two!"
    assert any(note["text"] == "two!" for note in json.loads(session.get("/notes").text)["notes"])
    deleted = session("DELETE", url)
    assert (deleted.status, deleted.body) == (204, b"")
    missing = session.get(url)
    assert (missing.status, "No such note" in missing.text) == (404, True)


def options_and_methods_of_its_own_are_answered(base: str) -> None:
    session = WebSession(base)
    response = session("OPTIONS", "/notes/1")
    assert (response.status, response.headers["Allow"]) == (204, "GET, PUT, PATCH, DELETE, OPTIONS")
    assert session("PURGE", "/notes/1").text == "purged 1"
    assert session("DELETE", "/notes").status == 405


def status_metrics_and_livez_are_the_applications(base: str) -> None:
    session = WebSession(base)
    assert json.loads(session.get("/status").text) == {"status": "of the team", "motto": "as they are"}
    assert session.get("/livez").text == "the team lives"
    assert session.get("/metrics").text.startswith("team_requests_logged ")


def the_log_function_sees_each_request(base: str) -> None:
    session = WebSession(base, room="log")
    first, second = (int(session.get("/metrics").text.split()[1]) for _ in range(2))
    assert second > first


def an_unknown_path_and_an_error_have_the_applications_own_pages(base: str) -> None:
    for target, status in (("/nowhere", 404), ("/broken", 500), ("/slowly/nowhere", 404)):
        response = WebSession(base).get(target)
        assert (response.status, response.text) == (status, f"<h1>The team is sorry: {status}</h1>")


def hooks_that_call_no_super_work(base: str) -> None:
    session, key = WebSession(base), uuid.uuid4().hex
    response = session.get(f"/hooks?key={key}")
    assert (response.text, response.headers["X-Prepared"]) == ("hooks", "True")
    wait_until(lambda: json.loads(session.get(f"/audit?key={key}").text)["audit"] == ["finished"])


def a_host_name_has_routes_of_its_own(base: str) -> None:
    session = WebSession(base)
    assert json.loads(session.get("/", Host="api.team.example").text) == {"api": "api.team.example"}
    assert "<h1>Welcome</h1>" in session.get("/", Host="www.team.example").text


def nested_applications_and_routers_are_reached(base: str) -> None:
    session = WebSession(base)
    assert session.get("/admin/users").text.startswith("admin of ")
    assert session.get("/mounted/raw").text == "raw GET"
    missing = session.get("/admin/nothing")
    assert (missing.status, missing.text) == (404, "the admin has no such page")
    assert session.get("/mounted/nothing").text == "the admin has no such page"


def a_url_is_made_from_its_name(base: str) -> None:
    links = json.loads(WebSession(base).get("/links?a=1").text)
    assert (links["home"], links["note"], links["report"]) == ("/", "/notes/7", "/reports/abc")
    assert links["full"] == f"{base}/links?a=1"


def redirects_are_passed_on_as_they_are(base: str) -> None:
    session = WebSession(base)
    for target, status, location in (
        ("/away", 302, "/account?from=/away"),
        ("/away?permanent=1", 301, "/account?from=/away"),
        ("/old/a/b", 301, "/files/a/b"),
    ):
        response = session.get(target)
        assert (response.status, response.headers["Location"]) == (status, location)


def five_kilobytes_of_cookies_are_passed_on(base: str) -> None:
    response = WebSession(base).get("/headers")
    assert (response.status, response.text) == (200, "a long cookie")
    first, second = response.headers.get_all("Set-Cookie", [])
    assert len(first) > 5000
    assert second.startswith("second=2")
    assert ", ".join(response.headers.get_all("X-Team", [])) == "one, two"


def a_path_arrives_as_it_was_sent(base: str) -> None:
    session = WebSession(base)
    for path, name in (
        ("/files/a%2Fb%20c", "a/b c"),
        ("//files/a", "a"),
        ("/files/a//b", "a//b"),
        ("/files/a/../b", "a/../b"),
        ("/files/%C3%BC", "ü"),
        ("/files/a;b=c,d", "a;b=c,d"),
    ):
        assert json.loads(session.get(path).text) == {"path": path, "name": name}


def arguments_headers_and_bodies_arrive_as_they_were_sent(base: str) -> None:
    session = WebSession(base)
    seen = json.loads(session.get("/echo?a=1&a=2&u=%C3%BC&empty=", X_Own="here").text)
    assert seen["arguments"] == {"a": ["1", "2"], "u": ["ü"], "empty": [""]}
    assert seen["uri"] == "/echo?a=1&a=2&u=%C3%BC&empty="
    assert (seen["headers"]["X-Own"], seen["host"], seen["protocol"]) == (["here"], session.netloc, "http")
    form = json.loads(session("POST", "/echo?q=1", headers=FORM, body=b"b=2").text)
    assert (form["arguments"], form["body"]) == ({"q": ["1"], "b": ["2"]}, "b=2")
    chunked = session("POST", "/echo", body=iter([b"part one, ", b"part two"]))
    assert json.loads(chunked.text)["body"] == "part one, part two"
    assert json.loads(session("POST", "/echo", body=bytes(10_000_000)).text)["body"] == 10_000_000


def a_decorated_coroutine_works(base: str) -> None:
    assert WebSession(base).get("/legacy").text == "legacy 3"


FORM = {"Content-Type": "application/x-www-form-urlencoded"}
