"""The audit log's page and its CSV; and that whatever the console writes is in it."""

import csv
import io
import re
from collections.abc import Iterator

import pytest

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.clock import MICROSECONDS_PER_DAY
from tests.console.organisation import People, audit_rows, user_id
from tests.console.visitor import Visitor, text_of
from tests.scripted.server import EMAIL, ScriptedServer

SOMEBODY = Actor("usr_1", "somebody@northwind.example", "203.0.113.9")


@pytest.fixture
def people(server: ScriptedServer) -> Iterator[People]:
    people = People(server)
    yield people
    people.leave()


@pytest.fixture
def alice(people: People) -> Visitor:
    """The owner, signed in."""
    return people.owner()


def write(
    server: ScriptedServer, count: int, *, day: int = 20_000, actor: Actor = SOMEBODY, action: str = "x do"
) -> None:
    """Rows that are a day apart, whose subjects are numbers."""
    for number in range(count):
        at = (day + number) * MICROSECONDS_PER_DAY
        changes = {"name": f"old {number}"}, {"name": f"new {number}", "on": True}
        row = audited(at, actor, action, f"subject-{number}", changes, server.organisation_id)
        server.run(server.instance.database.commit(row))


def subjects(answer) -> list[str]:
    return re.findall(r"subject-\d+", re.sub(r"<form class=\"filters\".*?</form>", "", answer.text, flags=re.DOTALL))


def rows_of(answer) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_a_row_says_who_did_what_when_from_where_and_how_it_was_before(server: ScriptedServer, alice: Visitor) -> None:
    write(server, 1, day=20_786)

    page = alice.get("/audit")

    told = text_of(page)
    assert "29 Nov 2026, 00:00 UTC somebody@northwind.example 203.0.113.9 x do subject-0" in told
    assert re.search(r"<del>.*old 0</del>", page.text)
    assert re.search(r"<ins>.*new 0</ins>", page.text)
    assert "on after: yes" in told


def test_ids_are_called_by_their_names(server: ScriptedServer, people: People, alice: Visitor) -> None:
    people.member("viewer").close()

    page = alice.get("/audit")

    assert "viewer@northwind.example" in text_of(page)
    assert re.search(r'<a href="/keys/\w+">first-key</a>', page.text)


def test_a_name_that_is_the_id_of_a_stranger_tells_nothing_of_him(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    people.stranger("carol@harbour.example").close()
    carol = user_id(server, "carol@harbour.example")
    alice.post("/keys", name=carol)
    alice.post("/settings/name", name=carol)
    alice.post("/settings/management-keys", {"acls": ["team-token:endpoint:*"]}, name=carol)

    page = text_of(alice.get("/audit"))

    assert carol in page
    assert "carol@harbour.example" not in page
    assert EMAIL in page


def test_pages_lead_to_older_rows_and_back_and_miss_none(server: ScriptedServer, alice: Visitor) -> None:
    write(server, 120)
    seen, path, backwards = [], "/audit?action=x", []
    while path:
        page = alice.get(path)
        seen.append(subjects(page))
        older = re.search(r'rel="next" href="([^"]+)"', page.text)
        path = older[1].replace("&amp;", "&") if older is not None else ""
        assert not path or "action=x" in path
    while page is not None:
        backwards.append(subjects(page))
        newer = re.search(r'rel="prev" href="([^"]+)"', page.text)
        page = alice.get(newer[1].replace("&amp;", "&")) if newer is not None else None

    assert [len(rows) for rows in seen] == [50, 50, 20]
    assert [one for rows in seen for one in rows] == [row.subject for row in audit_rows(server, "x")]
    assert backwards == seen[::-1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("text=NEW 3", ["subject-3"]),
        ("text=somebody@", ["subject-4", "subject-3", "subject-2", "subject-1", "subject-0"]),
        ("actor=usr_1", ["subject-4", "subject-3", "subject-2", "subject-1", "subject-0"]),
        ("actor=nobody", []),
        ("action=x", ["subject-4", "subject-3", "subject-2", "subject-1", "subject-0"]),
        ("action=x do", ["subject-4", "subject-3", "subject-2", "subject-1", "subject-0"]),
        ("action=x d", []),
        ("action=x&since=2024-10-05", ["subject-4", "subject-3", "subject-2", "subject-1"]),
        ("action=x&until=2024-10-05", ["subject-1", "subject-0"]),
        ("action=x&since=2024-10-05&until=2024-10-05", ["subject-1"]),
        ("text=100%25", []),
    ],
)
def test_filters_stand_in_the_url_and_hold_for_the_csv_too(
    server: ScriptedServer, alice: Visitor, query: str, found: list[str]
) -> None:
    write(server, 5)

    page, file = alice.get(f"/audit?{query}"), alice.get(f"/audit.csv?{query}")

    # Of rows of one millisecond any may be the first.
    assert sorted(subjects(page), reverse=True) == found
    assert [row["subject"] for row in rows_of(file)] == subjects(page)
    assert found or "Nothing is like that." in text_of(page)


def test_a_day_that_is_none_is_said_at_its_field(alice: Visitor) -> None:
    answer = alice.get("/audit?since=yesterday")

    assert answer.status_code == 400
    assert 'aria-describedby="field-since-error' in answer.text


def test_no_cell_of_the_csv_is_a_formula(server: ScriptedServer, alice: Visitor) -> None:
    evil = Actor("usr_2", "=HYPERLINK(1)@evil.example")
    row = audited(1, evil, "x do", "@SUM(A1)", ({}, {"name": "=1"}), server.organisation_id)
    server.run(server.instance.database.commit(row))

    answer = alice.get("/audit.csv?action=x")

    [told] = rows_of(answer)
    assert (told["actor"], told["subject"]) == ("'=HYPERLINK(1)@evil.example", "'@SUM(A1)")
    assert answer.headers["content-type"].startswith("text/csv")
    assert not any(cell.startswith(("=", "+", "-", "@")) for cell in told.values())


def test_the_csv_has_all_rows_however_many(server: ScriptedServer, alice: Visitor, monkeypatch) -> None:
    monkeypatch.setattr("leadline.console.audit_view.MOST_ROWS", 7)
    write(server, 30)

    assert len(rows_of(alice.get("/audit.csv?action=x"))) == 30


def test_every_member_sees_the_log_of_his_organisation_and_of_no_other(
    server: ScriptedServer, people: People, alice: Visitor
) -> None:
    write(server, 1)
    viewer, carol = people.member("viewer"), people.stranger()

    assert subjects(viewer.get("/audit")) == ["subject-0"]
    assert subjects(carol.get("/audit")) == []
    assert "subject-0" not in carol.get("/audit.csv").text
    [row] = audit_rows(server, "x")
    assert subjects(carol.get(f"/audit?after={row.id}")) == []
    assert user_id(server, EMAIL) not in carol.get("/audit").text


def test_what_others_wrote_is_text_and_no_markup(server: ScriptedServer, alice: Visitor) -> None:
    row = audited(1, SOMEBODY, "x do", "<b>it</b>", ({}, {"<i>": "<script>alert(1)</script>"}), server.organisation_id)
    server.run(server.instance.database.commit(row))

    page = alice.get("/audit")

    assert "<script>alert" not in page.text
    assert "<b>it" not in page.text
    assert "<i>" not in page.text
