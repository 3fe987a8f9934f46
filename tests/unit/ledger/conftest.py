"""The ledger of the money path's tests on a clock that is stepped."""

import pytest

from leadline.ledger.ledger import Ledger
from leadline.storage.database import Database
from tests.unit.ledger.scenes import SteppedClock


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
async def ledger(database: Database, alice: str, clock: SteppedClock) -> Ledger:
    """A ledger in which Alice's organisation has an account with nothing in it."""
    opened = Ledger(database, clock)
    await database.commit(opened.opening(alice))
    await opened.load()
    return opened


@pytest.fixture(autouse=True)
def retries_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leadline.ledger.ledger.RETRY_SECONDS", 0)
