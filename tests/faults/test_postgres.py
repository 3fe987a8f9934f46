"""A PostgreSQL server that restarts under load, again and again."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from leadline.ledger.audit import audit
from tests.postgres import ask, new_database
from tests.raw import Answer, post
from tests.scripted.server import ScriptedServer

pytestmark = pytest.mark.slow

RESTARTS = 10
CLIENTS = 8
DEADLINE_SECONDS = 60
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@pytest.fixture
def url() -> Iterator[str]:
    with new_database() as made:
        yield made


def test_no_restart_of_postgresql_loses_or_doubles_a_charge(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEADLINE_DATABASE__URL", url)
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "leadline.toml").write_text(
        "[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n"
    )
    server = ScriptedServer(tmp_path / "data", usd="100")
    answers = asyncio.run(_ask_while_it_restarts(server, url))
    told = [json.loads(answer.body) for answer in answers if answer.status == 200]
    audited = server.run(audit(server.instance.database, server.instance.ledger))
    charges = ask(url, "SELECT request_id, -amount_ticks FROM entries WHERE kind = 'charge'")
    balance, entries = server.balance(), ask(url, "SELECT SUM(amount_ticks)::bigint FROM entries")
    server.stop()

    charged = dict(charges)
    assert len(charged) == len(charges)
    assert {one["id"]: one["usage"]["cost_in_usd_ticks"] for one in told}.items() <= charged.items()
    assert {answer.status for answer in answers} == {200, 503}
    assert len(told) >= RESTARTS
    assert audited.broken == ()
    assert entries == [(balance.balance_ticks,)]
    assert balance.held_ticks == 0


async def _ask_while_it_restarts(server: ScriptedServer, url: str) -> list[Answer]:
    """As many answers as restarts at least, each between two of them, from clients that ask all the time."""
    answers: list[Answer] = []
    ended = asyncio.Event()

    async def client() -> None:
        while not ended.is_set():
            answers.append(await asyncio.to_thread(_chat, server))

    async def restarts() -> None:
        for _ in range(RESTARTS):
            whole = sum(answer.status == 200 for answer in answers)
            while sum(answer.status == 200 for answer in answers) < whole + 2:
                await asyncio.sleep(0.005)
            await asyncio.to_thread(ask, url, CUT)
        ended.set()

    async with asyncio.timeout(DEADLINE_SECONDS):
        await asyncio.gather(restarts(), *(client() for _ in range(CLIENTS)))
    # What was not charged yet is tried again by itself.
    await asyncio.to_thread(
        server.wait_until, lambda: server.instance.ledger.balance(server.organisation_id).held_ticks == 0
    )
    return answers


def _chat(server: ScriptedServer) -> Answer:
    body = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    return post(server.port, "/v1/chat/completions", server.api_key, json.dumps(body).encode())
