"""Alice's organisation with people of every role, and all that its billing needs."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.mail import Mail, Outbox
from leadline.accounts.roles import ROLES, Role
from leadline.billing.alerts import Alerts
from leadline.billing.receipts import Receipts
from leadline.billing.top_ups import TopUps
from leadline.config import Smtp
from leadline.ledger.books import Hold
from leadline.ledger.ledger import Ledger
from leadline.money import usd
from leadline.storage.database import Database
from leadline.storage.sealed import Sealer
from tests.scripted.stripe import ScriptedStripe
from tests.unit.accounts.people import People
from tests.unit.ledger.scenes import SteppedClock, finished, hold

BASE_URL = "https://leadline.example"
ALICE = Actor("usr_alice", "owner@example.com")


@dataclass
class Office:
    """`organisation_id` is Alice's. Everybody has the stepped clock."""

    database: Database
    clock: SteppedClock
    ledger: Ledger
    people: People
    outbox: Outbox
    organisation_id: str

    def __post_init__(self) -> None:
        parts = (self.database, self.ledger, self.people.organisations, self.outbox, self.clock)
        self.alerts, self.top_ups, self.receipts = Alerts(*parts), TopUps(*parts), Receipts(self.database)

    async def grant(self, dollars: str) -> None:
        await self.ledger.grant(self.organisation_id, usd(dollars), "welcome")

    async def spend(self, dollars: str) -> None:
        running = self.hold(dollars)
        self.ledger.reserve(running)
        await self.ledger.settle(running, finished(running, running.ticks, at=self.clock.now))

    def hold(self, dollars: str) -> Hold:
        return hold(usd(dollars), organisation=self.organisation_id, opened_at=self.clock.now)

    async def mails(self) -> list[Mail]:
        """The oldest first."""
        return list(reversed(await self.outbox.newest(200)))

    async def again(self) -> "Office":
        """After a restart."""
        ledger = Ledger(self.database, self.clock)
        await ledger.load()
        office = Office(self.database, self.clock, ledger, self.people, self.outbox, self.organisation_id)
        await office.alerts.load()
        return office


@pytest.fixture
async def office(database: Database) -> AsyncIterator[Office]:
    clock, people = SteppedClock(), People(database)
    organisation = await people.create("owner@example.com")
    for role in ROLES[1:]:
        await join(people, organisation.id, f"{role}@example.com", role)
    ledger = Ledger(database, clock)
    await ledger.load()
    yield Office(database, clock, ledger, people, Outbox(database, Sealer(b"s" * 32), Smtp()), organisation.id)
    people.passwords.close()


async def join(people: People, organisation_id: str, email: str, role: Role) -> None:
    await people.organisations.join(await people.new(email), organisation_id, role, COMMAND_LINE)


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    with ScriptedStripe().served() as scripted:
        yield scripted


@pytest.fixture(autouse=True)
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadline.ledger.ledger.RETRY_SECONDS", 0)
