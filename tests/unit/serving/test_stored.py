"""Answers that are kept for their owner."""

import asyncio
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from leadline.chat.collect import ChatAnswer, Choice
from leadline.chat.events import Finished, Usage
from leadline.chat.request import Message, Text
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.errors import EngineFailed, InvalidRequest
from leadline.ids import new_uuid
from leadline.ledger.books import Outcome
from leadline.ledger.ledger import Ledger
from leadline.money import Ticks
from leadline.serving.codec import KeptAnswer, KeptError, encode
from leadline.serving.stored import LARGEST_BYTES, StoredAnswers, known_id
from leadline.storage.database import Database, DatabaseUnusable, Transaction, Write
from leadline.storage.sealed import Sealer
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import SteppedClock, hold, record

LAST = (Finished(Usage()),)


def saying(text: str) -> KeptAnswer:
    answer = ChatAnswer((Choice((Text(text),), "stop"),), Usage(1, output_tokens=1))
    return KeptAnswer(uuid.UUID(int=7), 1, "m", "m", "fp_1", 30, (Message("user", (Text("hi"),)),), answer)


HELLO = saying("hello")


@dataclass
class Ran:
    """A generation as the store sees it."""

    hold: Any = field(default_factory=lambda: hold(100))
    keepers: list[Any] = field(default_factory=list)
    is_kept: bool = False

    @property
    def id(self) -> str:
        return str(self.hold.request_id)


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def stored(database: Database, clock: SteppedClock) -> StoredAnswers:
    return StoredAnswers(database, Sealer(b"s" * 32), clock)


async def kept(stored: StoredAnswers, content: KeptAnswer = HELLO) -> str:
    """The id of a response that is kept."""
    ran = Ran()
    await stored.put(ran, "response", content)
    return ran.id


async def test_an_answer_is_kept_in_one_commit_with_its_charge(
    stored: StoredAnswers, ledger: Ledger, database: Database, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ran = Ran()
    ledger.reserve(ran.hold)
    stored.keep(ran, "response", lambda batch: HELLO if batch is LAST else None)
    kept = tuple(keep(LAST) for keep in ran.keepers)
    before = commits.count

    await ledger.settle(ran.hold, lambda: Outcome(record(ran.hold, 30), kept))

    assert commits.count == before + 1
    assert await stored.find("org_alice", "response", ran.id) == HELLO
    assert ledger.balance("org_alice").balance_ticks == 70


async def test_a_charge_that_is_refused_leaves_no_answer(
    stored: StoredAnswers, ledger: Ledger, commits: Commits
) -> None:
    await ledger.grant("org_alice", Ticks(100), "welcome")
    ran = Ran()
    ledger.reserve(ran.hold)
    stored.keep(ran, "response", lambda _: HELLO)
    outcomes = [Outcome(record(ran.hold, 30), tuple(keep(LAST) for keep in ran.keepers)), Outcome(record(ran.hold, 20))]
    commits.refusals = 1

    await ledger.settle(ran.hold, lambda: outcomes.pop(0) if len(outcomes) > 1 else outcomes[0])

    assert await stored.find("org_alice", "response", ran.id) is None
    assert ledger.balance("org_alice").balance_ticks == 80


async def test_nothing_is_kept_where_there_is_nothing_to_keep(stored: StoredAnswers) -> None:
    ran = Ran()
    stored.keep(ran, "response", lambda _: None)

    assert [keep(LAST) for keep in ran.keepers] == [None]


async def test_an_id_is_found_in_each_of_its_spellings(stored: StoredAnswers) -> None:
    one = await kept(stored)
    bare = one.replace("-", "")

    for spelled in (one, bare, f"resp_{bare}", f"msg_{bare}", one.upper(), f"resp_{bare.upper()}"):
        assert await stored.find("org_alice", "response", spelled) == HELLO


ZEROS = "0" * 32
NO_IDS = ["", "resp_", "resp_1", f"rs_{ZEROS}", f"resp_{ZEROS}0", f"{{{ZEROS}}}", f"urn:uuid:{ZEROS}", "٣" * 32]


@pytest.mark.parametrize("spelled", [*NO_IDS, f"{ZEROS}\n", f" {ZEROS}", f"{ZEROS[:8]}-{ZEROS[8:]}", "' OR 1=1 --"])
def test_what_is_no_id_is_none(spelled: str) -> None:
    assert known_id(spelled) is None


async def test_charlie_sees_nothing_of_alices(stored: StoredAnswers) -> None:
    one = await kept(stored)

    assert await stored.find("org_charlie", "response", one) is None
    assert not await stored.delete("org_charlie", "response", one)
    assert await stored.find("org_alice", "response", one) == HELLO


async def test_an_answer_of_another_kind_is_another_answer(stored: StoredAnswers) -> None:
    one = await kept(stored)

    assert await stored.find("org_alice", "deferred", one) is None
    assert not await stored.delete("org_alice", "deferred", one)


async def test_of_many_who_delete_one_answer_one_did(stored: StoredAnswers) -> None:
    one = await kept(stored)

    deleted = await asyncio.gather(*(stored.delete("org_alice", "response", one) for _ in range(20)))

    assert deleted.count(True) == 1
    assert await stored.find("org_alice", "response", one) is None


@pytest.mark.parametrize(("kind", "days"), [("response", 30), ("deferred", 1)])
async def test_after_its_term_an_answer_is_gone(
    stored: StoredAnswers, clock: SteppedClock, database: Database, kind: Any, days: int
) -> None:
    ran = Ran()
    await stored.put(ran, kind, HELLO)

    clock.step(days * MICROSECONDS_PER_DAY - 1)
    await stored.prune()
    assert await stored.find("org_alice", kind, ran.id) == HELLO
    clock.step(1)
    assert await stored.find("org_alice", kind, ran.id) is None
    assert not await stored.delete("org_alice", kind, ran.id)
    await stored.prune()
    assert await database.rows("SELECT * FROM stored_answers") == []


async def test_many_are_pruned_in_short_commits(
    stored: StoredAnswers, clock: SteppedClock, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leadline.serving.stored._PRUNED_AT_ONCE", 3)
    for _ in range(7):
        await kept(stored)
    clock.step(30 * MICROSECONDS_PER_DAY)
    young = await kept(stored)

    await stored.prune()

    assert await database.rows("SELECT id FROM stored_answers") == [(young,)]


async def test_what_is_there_already_stays(stored: StoredAnswers) -> None:
    ran = Ran()
    await stored.put(ran, "deferred", HELLO)

    await stored.put(ran, "deferred", saying("second"))

    assert await stored.find("org_alice", "deferred", ran.id) == HELLO


async def test_of_an_answer_that_is_kept_twice_each_goes_at_its_own_term(
    stored: StoredAnswers, clock: SteppedClock
) -> None:
    ran, spoken = Ran(), saying("deferred")
    await stored.put(ran, "response", HELLO)
    await stored.put(ran, "deferred", spoken)
    assert await stored.find("org_alice", "response", ran.id) == HELLO
    assert await stored.find("org_alice", "deferred", ran.id) == spoken

    clock.step(MICROSECONDS_PER_DAY)
    await stored.prune()

    assert await stored.find("org_alice", "deferred", ran.id) is None
    assert await stored.find("org_alice", "response", ran.id) == HELLO
    assert await stored.delete("org_alice", "response", ran.id)


async def test_content_is_sealed_for_its_place(stored: StoredAnswers, database: Database) -> None:
    one, other = await kept(stored), await kept(stored, saying("goodbye"))
    [(sealed,)] = await database.rows("SELECT content FROM stored_answers WHERE id = $1", one)
    assert b"hello" not in sealed

    await database.together(_swap, (one, other))

    assert await stored.find("org_alice", "response", one) is None
    assert await StoredAnswers(database, Sealer(b"t" * 32), stored.clock).find("org_alice", "response", one) is None


def _swap(transaction: Transaction, items: Sequence[tuple[str, str]]) -> None:
    sql = "UPDATE stored_answers SET content = (SELECT content FROM stored_answers WHERE id = $1) WHERE id = $2"
    for one, other in items:
        transaction.write(Write(sql, (other, one)))


async def test_nothing_larger_than_16_mebibytes_is_kept(stored: StoredAnswers) -> None:
    assert LARGEST_BYTES == 16 * 1024 * 1024
    largest = saying("x" * (LARGEST_BYTES - len(encode(saying(""))) - 4))
    assert len(encode(largest)) == LARGEST_BYTES
    larger = replace(largest, model=largest.model + "x")
    for answer, is_kept in ((largest, True), (larger, False)):
        ran = Ran()
        stored.keep(ran, "response", lambda _, answer=answer: answer)
        assert (ran.keepers[0](LAST) is not None, ran.is_kept) == (is_kept, is_kept)

    stored.keep(ran, "response", lambda _: larger, too_large=InvalidRequest("Too large."))

    with pytest.raises(InvalidRequest):
        ran.keepers[1](LAST)
    assert not ran.is_kept


async def test_the_error_that_is_kept_in_place_of_an_answer_is_raised(stored: StoredAnswers) -> None:
    ran = Ran()
    await stored.put(ran, "deferred", KeptError.of(EngineFailed("It broke.")))

    for _ in range(2):
        with pytest.raises(EngineFailed, match=r"It broke\."):
            await stored.find("org_alice", "deferred", ran.id)


async def test_a_disk_that_refuses_says_so(stored: StoredAnswers, commits: Commits) -> None:
    one = await kept(stored)
    commits.refusals = 2

    with pytest.raises(DatabaseUnusable):
        await stored.put(Ran(), "response", HELLO)
    with pytest.raises(DatabaseUnusable):
        await stored.delete("org_alice", "response", one)

    assert await stored.find("org_alice", "response", one) == HELLO
    assert await stored.find("org_alice", "response", str(new_uuid())) is None
