"""What the tests of accounts share."""

from collections.abc import Iterator

import pytest

from leadline.storage.database import Database
from tests.unit.accounts.people import People


@pytest.fixture
def people(database: Database) -> Iterator[People]:
    everybody = People(database)
    yield everybody
    everybody.passwords.close()
