"""Paths, methods, hosts and bodies that no browser sends: each is refused in words, opens nothing, and is no fault of
ours."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadline.accounts.guard import Guard
from leadline.console.app import PAGES
from tests.console.organisation import People, audit_rows, mails
from tests.console.visitor import Visitor
from tests.raw import Raw
from tests.scripted.server import EMAIL, ScriptedServer

SESSION = "leadline_session"
SECRET_WORDS = (b"first-key", b"Northwind")
PATHS = (
    *(
        "//keys",
        "/./keys",
        "/x/../keys",
        "/KEYS",
        "/Keys",
        "/keys/.",
        "/keys/..",
        "/%2e%2e/keys",
        "/%2fkeys",
        "/keys%2f",
    ),
    *(
        "/keys%00",
        "/keys%0d%0a",
        "/keys%3fx",
        "/keys%23x",
        "/keys;x=1",
        "/keys%ff%fe",
        "/keys%c0%af",
        "/%6beys",
        "/keys//",
    ),
    *(
        "/keys/%2e%2e/admin/users",
        "/login/../admin/users",
        "/static/../keys",
        "/static/%2e%2e/keys",
        "/static//etc/passwd",
    ),
    *(
        "/admin%2fusers",
        "/admin/%75sers",
        "/admin/users/",
        "/admin/users/.",
        "/keys/" + "a" * 5000,
        "/keys/" + "%41" * 3000,
    ),
    *(
        "/docs/../keys",
        "/docs/guides/..%2f..%2f..%2f..%2fetc%2fpasswd",
        "/docs/protos/..%2fapp.py",
        "/keys/\\..\\..\\x",
    ),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    server = ScriptedServer(Path(tmp_path_factory.mktemp("tricks") / "data"))
    yield server
    server.stop()


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


def sent(server: ScriptedServer, line: str, *headers: str, body: bytes = b"") -> tuple[int, bytes]:
    """The status and the whole answer."""
    raw = Raw(server.port)
    head = [f"{line} HTTP/1.1", "Connection: close", *headers]
    raw.send(("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body)
    whole = raw.read_to_end()
    return int(whole.split(b" ", 2)[1]), whole


def cookie(visitor: Visitor) -> str:
    return f"Cookie: {SESSION}={visitor.http.cookies[SESSION]}"


@pytest.mark.parametrize("path", PATHS)
def test_no_spelling_of_a_path_opens_more(server: ScriptedServer, people: People, path: str) -> None:
    stranger, (status, whole) = people.guest(), sent(server, f"GET {path}", "Host: test")
    stranger.close()

    assert status in (303, 400, 401, 404, 405, 414, 431)
    assert not [word for word in SECRET_WORDS if word in whole]
    assert b"root:" not in whole


@pytest.mark.parametrize("path", [path for path in PATHS if "admin" in path])
def test_no_spelling_of_a_path_opens_the_server_s_pages_to_a_member(
    server: ScriptedServer, people: People, path: str
) -> None:
    viewer = people.member("viewer", f"v{PATHS.index(path)}@northwind.example")
    status, whole = sent(server, f"GET {path}", "Host: test", cookie(viewer))

    assert status in (400, 401, 404, 405)
    assert EMAIL.encode() not in whole


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get"])
def test_methods_that_no_form_has_do_nothing(server: ScriptedServer, people: People, method: str) -> None:
    alice, before = people.owner(), len(audit_rows(server))
    for page in PAGES:
        if "{" in page.path or page.path in ("/", "/stripe/webhook"):
            continue
        raw = Raw(server.port)
        head = f"{method} {page.path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{cookie(alice)}\r\n"
        raw.send(f"{head}Sec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n\r\n".encode())
        status = int(raw.read_to_end().split(b" ", 2)[1])
        assert status in (400, 404, 405), page.path

    assert len(audit_rows(server)) == before


def test_what_only_looks_looks_alike(server: ScriptedServer, people: People) -> None:
    """HEAD is GET without its body, and POST by another name is GET."""
    alice, before = people.owner(), len(audit_rows(server))
    status, whole = sent(server, "HEAD /keys", "Host: test", cookie(alice))
    for header in ("X-HTTP-Method-Override: POST", "X-Method-Override: DELETE", "X-HTTP-Method: POST"):
        assert sent(server, "GET /logout", "Host: test", cookie(alice), header)[0] == 405
    for query in ("_method=POST", "_method=DELETE"):
        assert sent(server, f"GET /keys?{query}&name=theirs", "Host: test", cookie(alice))[0] == 200

    assert status == 200
    assert whole.endswith(b"\r\n\r\n")
    assert len(audit_rows(server)) == before


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Same-Origin", "same-origin, cross-site", "", "null"])
def test_only_our_own_pages_send_forms(server: ScriptedServer, people: People, site: str) -> None:
    alice, before = people.owner(), len(audit_rows(server))
    form = ("Content-Type: application/x-www-form-urlencoded", "Content-Length: 6")
    status, _ = sent(
        server, "POST /logout", "Host: test", cookie(alice), f"Sec-Fetch-Site: {site}", *form, body=b"name=a"
    )

    assert status == 403
    assert len(audit_rows(server)) == before


@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data; boundary=x", "application/json", ""])
@pytest.mark.parametrize("path", ["/playground/chat", "/playground/code", "/playground/text", "/keys", "/members"])
def test_no_kind_of_body_comes_from_another_site(server: ScriptedServer, people: People, path: str, kind: str) -> None:
    """What a form of any site can send without asking first."""
    alice, before = people.owner(), len(audit_rows(server))
    body = json.dumps({"model": "echo", "turns": [{"role": "user", "text": "x"}], "text": "x"}).encode()
    told = [f"Content-Type: {kind}"] if kind else []
    headers = (cookie(alice), *told, f"Content-Length: {len(body)}")
    foreign, _ = sent(server, f"POST {path}", "Host: test", "Sec-Fetch-Site: cross-site", *headers, body=body)
    old, _ = sent(server, f"POST {path}", "Host: test", "Origin: https://evil.example", *headers, body=body)
    silent, _ = sent(server, f"POST {path}", "Host: test", *headers, body=body)

    assert (foreign, old, silent) == (403, 403, 403)
    assert len(audit_rows(server)) == before


@pytest.mark.parametrize("scheme", ["http", "HTTPS", "ftp", "", "null"])
def test_under_https_a_page_in_plain_text_sends_no_forms(server: ScriptedServer, people: People, scheme: str) -> None:
    alice = people.owner()
    base_url, server.instance.base_url = server.instance.base_url, "https://test"
    session = f"Cookie: __Host-session={alice.http.cookies[SESSION]}"
    try:
        refused = sent(server, "POST /logout", "Host: test", session, f"Origin: {scheme}://test", "Content-Length: 0")
        taken = sent(server, "POST /logout", "Host: test", session, "Origin: https://test", "Content-Length: 0")
    finally:
        server.instance.base_url = base_url

    assert (refused[0], taken[0]) == (403, 303)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "test/../evil", "a?b", "a#b", "127.0.0.1@evil.example"]
)
def test_no_host_that_is_sent_is_in_a_mail_or_a_link(server: ScriptedServer, host: str) -> None:
    body = f"email={EMAIL}".encode()
    form = ("Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}")
    forged = (f"X-Forwarded-Host: {host}", "Forwarded: host=evil.example", "X-Forwarded-For: 203.0.113.66")
    server.instance.guard = Guard()
    status, whole = sent(
        server, "POST /forgot", f"Host: {host}", "Sec-Fetch-Site: same-origin", *forged, *form, body=body
    )
    led, _ = sent(server, "GET /keys", f"Host: {host}")

    assert (status, led) == (200, 303)
    assert b"evil" not in whole
    assert mails(server, EMAIL)
    assert not [mail for mail in mails(server, EMAIL) if "evil" in mail.text]


def test_two_lengths_and_two_ends_are_refused(server: ScriptedServer) -> None:
    form = "Content-Type: application/x-www-form-urlencoded"
    hidden = b"GET /home HTTP/1.1\r\nHost: test\r\n\r\n"
    for headers in (
        ("Content-Length: 5", "Content-Length: 6"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Content-Length: -1",),
        ("Content-Length: 0x5",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: xchunked",),
    ):
        _, whole = sent(
            server,
            "POST /login",
            "Host: test",
            "Sec-Fetch-Site: same-origin",
            form,
            *headers,
            body=b"0\r\n\r\n" + hidden,
        )
        assert whole.count(b"HTTP/1.1 ") == 1, headers


def test_what_is_far_too_large_is_refused(server: ScriptedServer, people: People) -> None:
    alice = people.owner()
    for line, header in (
        ("GET /keys?" + "a" * 200_000, "X: y"),
        ("GET /keys", "Cookie: " + "a=b; " * 60_000),
        ("GET /keys", "X: " + "y" * 300_000),
    ):
        raw = Raw(server.port)
        try:
            raw.send(f"{line} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{header}\r\n\r\n".encode())
            status = int(raw.read_to_end().split(b" ", 2)[1])
        except (ConnectionError, IndexError):
            continue
        assert status in (200, 303, 400, 414, 431)

    assert alice.get("/keys").status_code == 200
