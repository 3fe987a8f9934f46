"""The pages of the server's administrators, as browsers without scripts walk them."""

import asyncio
import csv
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leadline.accounts.actor import COMMAND_LINE
from leadline.administration.commands.users import make_admin
from leadline.ledger.usage import UsageBook
from leadline.money import usd
from tests.console.admin_scene import Scene, never, scene
from tests.console.organisation import audit_rows, user_id
from tests.console.visitor import PASSWORD, Visitor, text_of
from tests.postgres import new_database
from tests.scripted.server import EMAIL

CAROL = "carol@harbour.example"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Scene]:
    with scene(tmp_path) as found:
        yield found


def says(visitor: Visitor, path: str) -> str:
    return text_of(visitor.get(path))


def rows_of(visitor: Visitor, path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(visitor.get(path).text)))


def test_an_engine_is_unloaded_and_loaded(served: Scene) -> None:
    before = says(served.admin, "/admin/engines")
    served.admin.post("/admin/engines/here/unload")
    unloaded = says(served.admin, "/admin/engines")
    served.admin.post("/admin/engines/here/load")
    loading = says(served.admin, "/admin/engines")

    assert "412 MB taken, 830 MB claimed of 6.4 GB" in before
    assert "Not loaded; loads at its next request" in unloaded
    assert "Loading here.gguf, 200 of 400 MB" in loading
    assert [row.action for row in audit_rows(served.server, "engines")] == ["engines load", "engines unload"]


def test_an_engine_that_is_needed_stays_and_the_page_says_why(served: Scene) -> None:
    served.engine.busy = True
    answer = served.admin.post("/admin/engines/here/unload")

    assert answer.status_code == 303
    assert "one request needs it now" in says(served.admin, "/admin/engines")
    assert audit_rows(served.server, "engines") == []


@pytest.mark.parametrize("name", ["gpu-1", "nobody"])
def test_what_is_not_ours_to_load_has_no_such_form(served: Scene, name: str) -> None:
    assert served.admin.post(f"/admin/engines/{name}/load").status_code == 404


def test_a_pull_shows_how_far_it_is_and_is_cancelled(served: Scene) -> None:
    served.bring(never)
    served.admin.post("/admin/engines", known="smollm2-135m-instruct")
    page, now = served.admin.get("/admin/engines"), served.admin.get("/admin/engines/now").json()
    cancel = re.search(r"/admin/engines/pulls/\w+/cancel", page.text)
    assert cancel is not None
    served.admin.post(cancel[0])

    assert "Downloading, 49.0 MB of 98.0 MB" in page.text
    assert (now["busy"], "49.0 MB" in now["parts"]["pulls"]) == (True, True)
    assert "cancelled" in says(served.admin, "/admin/engines")
    assert {row.action for row in audit_rows(served.server, "models")} == {"models pull", "models pull-cancel"}


def test_a_pull_of_something_else_is_refused(served: Scene) -> None:
    answer = served.admin.post("/admin/engines", wanted="/etc/passwd")

    assert answer.status_code == 400
    assert "is nothing to pull" in text_of(answer)


def test_the_key_of_an_engine_is_nowhere(served: Scene) -> None:
    pages = [served.admin.get(path).text for path in ("/admin/engines", "/admin/engines/now", "/admin/system")]

    assert not any("a-key-of-an-engine" in page or "hush-hush" in page for page in pages)
    assert "set, not shown" in pages[2]
    assert "smtps://…@127.0.0.1:9" in pages[2]


def test_users_are_found_by_a_part_of_name_or_e_mail(served: Scene) -> None:
    served.people.member("viewer", "dora_50%@northwind.example", "Dora Maar")
    served.people.stranger()

    assert "carol@" not in served.admin.get("/admin/users?q=MAAR").text
    assert "dora_50%@" in served.admin.get("/admin/users?q=50%25").text
    assert "Nobody is like that" in says(served.admin, "/admin/users?q=d_ra")
    assert [row["email"] for row in rows_of(served.admin, "/admin/users.csv?q=harbour")] == [CAROL]


def test_a_suspended_user_is_out_and_comes_back(served: Scene) -> None:
    carol = served.people.stranger()
    path = f"/admin/users/{user_id(served.server, CAROL)}"
    served.admin.post(f"{path}/suspend")
    outside = carol.get("/home").status_code
    listed = says(served.admin, "/admin/users?show=suspended")
    served.admin.post(f"{path}/resume")
    carol.sign_in(CAROL)

    assert (outside, carol.get("/home").status_code) == (303, 200)
    assert CAROL in listed


def test_the_last_administrator_stays_one(served: Scene) -> None:
    path = f"/admin/users/{user_id(served.server, EMAIL)}"
    refused = [served.admin.post(f"{path}/admin", admin="no"), served.admin.post(f"{path}/suspend")]

    assert [answer.status_code for answer in refused] == [400, 400]
    assert all("last admin" in text_of(answer) for answer in refused)
    assert served.admin.get("/admin/users").status_code == 200


def test_a_second_administrator_is_made_and_may_unmake_the_first(served: Scene) -> None:
    carol = served.people.stranger()
    hidden = carol.get("/admin/users").status_code
    served.admin.post(f"/admin/users/{user_id(served.server, CAROL)}/admin", admin="yes")
    seen = carol.get("/admin/users").status_code
    carol.post(f"/admin/users/{user_id(served.server, EMAIL)}/admin", admin="no")

    assert (hidden, seen, served.admin.get("/admin/users").status_code) == (404, 200, 404)


def test_a_reset_link_is_shown_once_and_works_once(served: Scene) -> None:
    served.people.stranger()
    path = f"/admin/users/{user_id(served.server, CAROL)}"
    shown = served.admin.get(served.admin.post(f"{path}/reset").headers["location"])
    found = re.search(r"reset\?token=([\w-]+)", shown.text)
    assert found is not None
    changed = served.people.guest().post("/reset", token=found[1], password="seven other words for tonight")

    assert served.admin.get(f"{path}/link").headers["location"] == path
    assert changed.status_code == 303
    assert served.people.guest().post("/reset", token=found[1], password=PASSWORD).status_code == 410


def test_the_link_of_one_is_not_shown_as_that_of_another(served: Scene) -> None:
    served.people.stranger()
    served.admin.post(f"/admin/users/{user_id(served.server, CAROL)}/reset")

    assert served.admin.get(f"/admin/users/{user_id(served.server, EMAIL)}/link").status_code == 303


def test_a_suspended_organisation_is_refused_and_works_again(served: Scene) -> None:
    path = f"/admin/organisations/{served.server.organisation_id}"
    key = {"authorization": f"Bearer {served.server.api_key}"}
    guest = served.people.guest()
    statuses = []
    for change in ("suspend", "resume"):
        served.admin.post(f"{path}/{change}")
        statuses.append(guest.get("/v1/models", **key).status_code)

    assert statuses == [403, 200]


def test_what_an_organisation_used_is_on_its_page_and_in_the_file(served: Scene) -> None:
    server, guest = served.server, served.people.guest()
    body = {"model": "echo", "messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 5}
    guest.http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {server.api_key}"})
    [charge] = server.charges()
    page = says(served.admin, f"/admin/organisations/{server.organisation_id}")
    [row] = rows_of(served.admin, "/admin/organisations.csv")

    assert "1 in the last 30 days" in page
    assert (row["name"], row["requests_30_days"], int(row["cost_30_days_ticks"])) == (
        *("Northwind", "1"),
        -charge.amount_ticks,
    )


def test_a_grant_is_in_the_ledger_and_in_the_list(served: Scene) -> None:
    answer = served.admin.post(
        "/admin/grants", organisation=EMAIL, amount="$2.50", reason="Pilot in spring", expires="2999-12-31"
    )
    [newest, *_] = rows_of(served.admin, "/admin/grants.csv")

    assert answer.status_code == 303
    assert served.server.balance().balance_ticks == usd("3.50")
    assert "Granted $2.50 to Northwind, until 2999-12-31. It has $3.50 now." in says(served.admin, "/admin/grants")
    assert (newest["granted"], newest["reason"], newest["by"]) == ("$2.50", "Pilot in spring", EMAIL)


@pytest.mark.parametrize(
    ("wrong", "says_why"),
    [
        ({"organisation": "nobody@nowhere.example"}, "No organisation has this id"),
        ({"organisation": ""}, "Choose an organisation"),
        ({"amount": "a lot"}, "not an amount"),
        ({"amount": "-5"}, "above zero"),
        ({"reason": ""}, "Give a reason"),
        ({"expires": "2001-01-01"}, "over already"),
    ],
)
def test_a_wrong_grant_changes_nothing_and_keeps_what_was_typed(
    served: Scene, wrong: dict[str, str], says_why: str
) -> None:
    fields = {"organisation": EMAIL, "amount": "5", "reason": "thanks & <b>more</b>", "expires": ""} | wrong
    answer = served.admin.post("/admin/grants", fields)

    assert answer.status_code == 400
    assert says_why in text_of(answer)
    assert wrong.get("reason") == "" or "thanks &amp; &lt;b&gt;more" in answer.text
    assert served.server.balance().balance_ticks == usd("1")


def test_prices_are_previewed_to_the_tick_and_change_only_when_saved(served: Scene) -> None:
    fields = {"output": "12.50", "do": "preview"}
    preview = served.admin.post("/admin/prices/large", fields)
    before = rows_of(served.admin, "/admin/prices.csv")
    saved = served.admin.post("/admin/prices/large", fields | {"do": "save"})
    after = [row for row in rows_of(served.admin, "/admin/prices.csv") if row["model"] == "large"]

    # 6,000 at 2.00, 4,000 at 0.50, and 1,500 at 10.00 or 12.50, each for a million.
    assert "$0.029" in preview.text
    assert "$0.03275" in preview.text
    assert [row["output_usd_per_million"] for row in before if row["model"] == "large"] == ["10.00"]
    assert saved.status_code == 303
    assert [(row["source"], row["output_usd_per_million"]) for row in after] == [
        ("file", "10.00"),
        ("command", "12.50"),
    ]
    assert after[1]["cached_input_usd_per_million"] == "0.50"


def test_prices_of_a_date_to_come_wait_for_it(served: Scene) -> None:
    served.admin.post("/admin/prices/small/instruct", {"input": "1.00", "from": "2999-01-01", "do": "save"})
    page = says(served.admin, "/admin/prices/small/instruct")

    assert "to come" in page
    assert served.server.pipeline.catalog.find("small/instruct").prices.is_free


@pytest.mark.parametrize(
    ("fields", "says_why"),
    [
        ({}, "Nothing is changed"),
        ({"input": "cheap"}, "is not a price"),
        ({"input": "0.00001"}, "more than four decimals"),
        ({"input": "3", "from": "2001-01-01"}, "for the past"),
        ({"input": "3", "from": "soon"}, "is not a date"),
        ({"input_long_context": "3"}, "long-context-threshold"),
    ],
)
def test_wrong_prices_change_nothing(served: Scene, fields: dict[str, str], says_why: str) -> None:
    answers = [served.admin.post("/admin/prices/large", fields | {"do": do}) for do in ("preview", "save")]

    assert [answer.status_code for answer in answers] == [400, 400]
    assert all(says_why in text_of(answer) for answer in answers)
    assert len([row for row in rows_of(served.admin, "/admin/prices.csv") if row["model"] == "large"]) == 1


def test_the_audit_log_has_rows_of_all_and_those_of_one_organisation(served: Scene) -> None:
    served.people.stranger()
    everything = says(served.admin, "/admin/audit")
    one = served.admin.get(f"/admin/audit?organisation={served.server.organisation_id}")
    listed = rows_of(served.admin, f"/admin/audit.csv?organisation={served.server.organisation_id}")

    assert "Harbour" in everything
    assert "Northwind" in everything
    assert "Harbour" not in text_of(one)
    assert {row["organisation_id"] for row in listed} == {served.server.organisation_id}
    assert f'href="/admin/organisations/{served.server.organisation_id}"' in one.text


def test_a_mail_is_read_which_the_audit_log_knows(served: Scene) -> None:
    served.admin.post("/admin/mail/test")
    page = served.admin.get("/admin/mail")
    found = re.search(r'/admin/mail/mail_\w+(?=">A test)', page.text)
    assert found is not None
    mail = says(served.admin, found[0])

    assert "If you read it, mails arrive" in mail
    assert [row.action for row in audit_rows(served.server, "mails")] == ["mails read", "mails test"]


def test_test_mails_are_bounded(served: Scene) -> None:
    statuses = {served.admin.post("/admin/mail/test").status_code for _ in range(40)}

    assert 429 in statuses


def test_without_a_mail_server_the_page_says_what_to_write(tmp_path: Path) -> None:
    with scene(tmp_path, "") as found:
        page = says(found.admin, "/admin/mail")

    assert "No mail server is set" in page
    assert "smtps://user:password@mail.example:465" in page


def test_a_backup_is_made_taken_away_and_deleted_and_has_no_secret(served: Scene) -> None:
    served.admin.post("/admin/system/backups")
    found = re.search(r"/admin/system/backups/leadline-\w+\.tar\.gz", served.admin.get("/admin/system").text)
    assert found is not None
    taken = served.admin.get(found[0])
    with tarfile.open(fileobj=io.BytesIO(taken.content)) as archive:
        names = archive.getnames()
    served.admin.post(f"{found[0]}/delete")

    assert names == ["manifest.json", "leadline.db", "leadline.toml"]
    assert taken.headers["content-disposition"].startswith("attachment")
    assert served.admin.get(found[0]).status_code == 404
    assert len(audit_rows(served.server, "backups")) == 3


def test_of_books_in_postgresql_the_page_names_the_tool_that_backs_them_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with new_database() as url:
        monkeypatch.setenv("LEADLINE_DATABASE__URL", url)
        with scene(tmp_path) as found:
            page = says(found.admin, "/admin/system")
            found.admin.post("/admin/system/backups")
            refused = says(found.admin, "/admin/system")

    assert "whose own tools back them up" in page
    assert "PostgreSQL 1" in page
    assert "Back up now" not in page
    assert "pg_dump" in refused


@pytest.mark.parametrize(
    "name", ["..%2Fsecret", "secret", "..%2F..%2Fsecret", "leadline-20260101T000000Z.tar.gz", "%2Fetc%2Fpasswd"]
)
def test_nothing_but_a_backup_is_taken_away(served: Scene, name: str) -> None:
    (served.server.data / "backups").mkdir(exist_ok=True)
    (served.server.data / "backups" / "leadline-20260101T000000Z.tar.gz").symlink_to(served.server.data / "secret")

    assert served.admin.get(f"/admin/system/backups/{name}").status_code == 404


def test_the_books_are_checked_and_what_is_broken_is_named(served: Scene) -> None:
    from leadline.storage.database import Write

    server, check = served.server, served.server.instance.ledger_check
    served.admin.post("/admin/system/check")
    server.wait_until(lambda: check.last is not None and not check.runs)
    well = says(served.admin, "/admin/system")

    async def break_books() -> None:
        await server.instance.database.commit(Write("UPDATE accounts SET balance_ticks = balance_ticks + 1", (), None))
        check.last = None

    server.run(break_books())
    served.admin.post("/admin/system/check")
    server.wait_until(lambda: check.last is not None and not check.runs)

    assert "every rule holds" in well
    assert "The books do not add up" in says(served.admin, "/admin/system")


def test_settings_say_where_they_come_from(served: Scene) -> None:
    page = says(served.admin, "/admin/system")

    assert "server.public_url http://api.northwind.example leadline.toml" in page
    assert "limits.default.requests_per_minute 480 default" in page


def test_pages_turn_by_cursor_and_back(served: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadline.console.turning.ROWS", 2)
    for number in range(4):
        served.people.stranger(f"user{number}@harbour.example", f"Harbour {number}")

    def emails(path: str) -> tuple[list[str], str | None, str | None]:
        page = served.admin.get(path).text
        links = [re.search(rf'rel="{rel}" href="([^"]+)"', page) for rel in ("prev", "next")]
        found = re.findall(r'/admin/users/usr_\w+">([^<]+)<', page)
        newer, older = (None if link is None else link[1].replace("&amp;", "&") for link in links)
        return found, newer, older

    first, no_newer, older = emails("/admin/users?q=harbour")
    assert older is not None
    second, newer, no_older = emails(older)
    assert newer is not None

    assert [*first, *second] == [f"user{number}@harbour.example" for number in (3, 2, 1, 0)]
    assert (no_newer, no_older) == (None, None)
    assert emails(newer)[0] == first


def test_an_administrator_by_command_sees_the_pages_at_once(served: Scene) -> None:
    carol = served.people.stranger()
    served.server.run(make_admin(served.server.instance, COMMAND_LINE, CAROL))

    assert carol.get("/admin/system").status_code == 200


def test_a_pull_goes_on_when_its_page_is_left(served: Scene) -> None:
    done = asyncio.Event()

    async def bring(_data: Path, _wanted: str, _watch: Any) -> dict[str, Any]:
        await done.wait()
        return {}

    served.bring(bring)
    served.admin.post("/admin/engines", known="smollm2-135m-instruct")
    served.server.loop.call_soon_threadsafe(done.set)
    served.server.wait_until(lambda: served.server.instance.pulls.all()[0].state == "done")

    assert "done" in says(served.admin, "/admin/engines")


def test_what_a_model_made_is_counted_by_the_second(served: Scene) -> None:
    server, guest = served.server, served.people.guest()
    body = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 5}

    async def look() -> tuple[int, ...]:
        await server.pipeline.running.tick()
        return server.pipeline.running.tokens_by_second("echo")

    server.run(look())
    guest.http.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {server.api_key}"})
    [record] = server.run(UsageBook(server.instance.database).records(server.organisation_id))

    assert record.usage.output_tokens > 0
    assert sum(server.run(look())) == record.usage.output_tokens


def test_an_engine_with_a_slash_in_its_name_is_unloaded_too(served: Scene) -> None:
    served.server.instance.engines = {"rack/1": served.engine}

    assert served.admin.post("/admin/engines/rack/1/unload").status_code == 303
    assert served.engine.status.state == "unloaded"


def test_a_file_that_was_broken_since_the_start_breaks_no_page(served: Scene) -> None:
    (served.server.data / "leadline.toml").write_text("[[", "utf-8")

    assert "server.public_url http://api.northwind.example leadline.toml" in says(served.admin, "/admin/system")


def test_a_setting_of_the_environment_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEADLINE_METRICS__TOKEN", "a-token-for-prometheus")
    with scene(tmp_path) as found:
        page = says(found.admin, "/admin/system")

    assert "metrics.token set, not shown LEADLINE_METRICS__TOKEN" in page
    assert "a-token-for-prometheus" not in page
