"""Whoever begins to send while he has a right, and ends when it has ended."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest

from leadline.accounts.actor import COMMAND_LINE
from tests.console.organisation import People, audit_rows, members, user_id
from tests.console.visitor import Visitor
from tests.raw import Raw
from tests.scripted.server import ScriptedServer

ADMIN = "admin@northwind.example"


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


def begun(visitor: Visitor, path: str, body: bytes, content_type: str = "application/x-www-form-urlencoded") -> Raw:
    """A form of which the last byte is still missing. The server has looked up who sends it."""
    raw = Raw(visitor.server.port)
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"Content-Type: {content_type}", "Sec-Fetch-Site: same-origin", "Expect: 100-continue"]
    lines += [f"Cookie: leadline_session={visitor.http.cookies['leadline_session']}"]
    raw.send(("\r\n".join(lines) + "\r\n\r\n").encode())
    raw.read_until(b"100 Continue\r\n\r\n")
    raw.send(body[:-1])
    return raw


def ended(raw: Raw, body: bytes) -> int:
    raw.send(body[-1:])
    answer = raw.read_to_end().rpartition(b"HTTP/1.1 ")[2]
    return int(answer[:3])


def remove(server: ScriptedServer) -> Any:
    return server.instance.organisations.remove_member(server.organisation_id, user_id(server, ADMIN), COMMAND_LINE)


def test_a_member_who_is_removed_while_he_sends_changes_nothing(server: ScriptedServer, people: People) -> None:
    body = urlencode({"email": "admin.again@northwind.example", "role": "admin"}).encode()
    raw = begun(people.member("admin"), "/members", body)
    server.run(remove(server))

    assert ended(raw, body) == 303
    assert not audit_rows(server, "members invite")


def test_a_role_that_is_lowered_while_a_form_is_sent_is_the_one_that_counts(
    server: ScriptedServer, people: People
) -> None:
    member, body = people.member("admin"), b"role=admin"
    raw = begun(member, f"/members/{user_id(server, ADMIN)}", body)
    server.run(
        server.instance.organisations.change_role(
            server.organisation_id, user_id(server, ADMIN), "viewer", COMMAND_LINE
        )
    )

    assert ended(raw, body) == 403
    assert members(server)[ADMIN].role == "viewer"


def test_a_session_that_ends_while_a_form_is_sent_does_nothing(server: ScriptedServer, people: People) -> None:
    body = b"name=too-late"
    raw = begun(people.member("admin"), "/keys", body)
    server.run(server.instance.sessions.close_all(user_id(server, ADMIN)))

    assert ended(raw, body) == 303
    assert "too-late" not in {key.name for key in server.instance.keys.of(server.organisation_id)}


def test_a_removed_member_asks_no_model_however_slowly_he_sends(server: ScriptedServer, people: People) -> None:
    asked = {"model": "echo", "turns": [{"role": "user", "text": "Hello"}]}
    body = json.dumps(asked).encode()
    raw = begun(people.member("admin"), "/playground/chat", body, "application/json")
    server.run(remove(server))

    assert ended(raw, body) == 403
    assert not audit_rows(server, "keys create")[1:]
