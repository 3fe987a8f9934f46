"""What has had its term goes, and what has not stays."""

from pathlib import Path

from leadline.accounts.mail import KEPT
from leadline.accounts.sessions import IDLE
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog
from leadline.clock import now_microseconds
from leadline.operations.app import build_pipeline
from leadline.operations.housekeeping import prune

YEAR = 365 * 86_400 * 1_000_000


async def test_sessions_links_and_mails_go_when_their_term_is_over(tmp_path: Path) -> None:
    instance = await Instance.open(tmp_path / "data")
    person = {"email": "alice@example.com", "org": "Alice", "password": "tulips and rain"}
    await run(instance, "accounts create", person)
    pipeline = build_pipeline(instance, Catalog([]))

    async def left() -> list[int]:
        """Sessions, links and mails, after a round."""
        await prune(instance, pipeline)
        tables = ("sessions", "links", "mails")
        return [(await instance.database.rows(f"SELECT COUNT(*) FROM {table}"))[0][0] for table in tables]

    alice = await instance.users.named("alice@example.com")
    await instance.sessions.open(alice.id, "192.0.2.1", "a browser")
    await run(instance, "users invite", {"email": "bob@example.com", "role": "viewer"})
    fresh = await left()
    later = now_microseconds() + max(IDLE, KEPT) + YEAR
    for part in (instance.sessions, instance.links, instance.outbox):
        part._clock = lambda: later
    old = await left()
    await instance.close()

    assert (fresh, old) == ([1, 1, 1], [0, 0, 0])
