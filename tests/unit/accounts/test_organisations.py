import pytest
from argon2 import PasswordHasher

from leadline.accounts.organisations import Organisations
from leadline.errors import InvalidRequest, NotFound
from leadline.ledger.ledger import Ledger
from leadline.storage.database import Conflict, Database, Write

PASSWORD = "correct horse"


@pytest.fixture
def organisations(database: Database) -> Organisations:
    return Organisations(database)


async def test_a_new_organisation_has_a_user_and_an_account(organisations: Organisations, database: Database) -> None:
    ledger = Ledger(database)

    user = await organisations.create(" Alice@Example.com ", " Alice & Co ", PASSWORD, ledger.opening)
    await ledger.load()

    assert (user.email, user.organisation) == ("alice@example.com", "Alice & Co")
    assert await organisations.users() == [user]
    assert ledger.balance(user.organisation_id).balance_ticks == 0


async def test_a_password_is_stored_as_a_hash_that_proves_it(organisations: Organisations, database: Database) -> None:
    await organisations.create("alice@example.com", "Alice", PASSWORD, Ledger(database).opening)

    [(stored,)] = await database.rows("SELECT password_hash FROM users")

    assert stored.startswith("$argon2id$")
    assert PasswordHasher().verify(stored, PASSWORD)


async def test_an_email_is_signed_up_once_however_it_is_written(
    organisations: Organisations, database: Database
) -> None:
    alice = await organisations.create("alice@example.com", "Alice", PASSWORD, Ledger(database).opening)

    with pytest.raises(InvalidRequest, match="already signed up") as refused:
        await organisations.create("ALICE@example.com", "Mallory", PASSWORD, Ledger(database).opening)

    assert refused.value.param == "email"
    assert await organisations.users() == [alice]
    assert await organisations.user(" Alice@EXAMPLE.com") == alice


async def test_an_organisation_whose_account_cannot_be_opened_is_not_made_at_all(
    organisations: Organisations, database: Database
) -> None:
    def opens_nothing(_: str) -> Write:
        return Write("UPDATE accounts SET balance_ticks = 0 WHERE organisation_id = 'nobody'")

    with pytest.raises(Conflict):
        await organisations.create("alice@example.com", "Alice", PASSWORD, opens_nothing)

    assert await organisations.users() == []
    assert await database.rows("SELECT * FROM organisations") == []


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("email", "alice"),
        ("email", "alice@"),
        ("email", "alice@example.com\nbcc: bob@example.com"),
        ("org", "  "),
        ("org", "A\x1b[31m"),
        ("org", "A" * 201),
        ("password", "1234567"),
        ("password", "p" * 1025),
    ],
)
async def test_what_cannot_be_signed_up_is_refused_by_its_field(
    organisations: Organisations, database: Database, field: str, wrong: str
) -> None:
    fields = {"email": "alice@example.com", "org": "Alice", "password": PASSWORD} | {field: wrong}

    with pytest.raises(InvalidRequest) as refused:
        await organisations.create(*fields.values(), Ledger(database).opening)

    assert refused.value.param == field
    assert await organisations.users() == []


async def test_the_only_organisation_needs_no_email_and_the_second_one_makes_it_needed(
    organisations: Organisations, database: Database
) -> None:
    with pytest.raises(NotFound, match="leadline init"):
        await organisations.user(None)
    alice = await organisations.create("alice@example.com", "Alice", PASSWORD, Ledger(database).opening)
    alone = await organisations.user(None)
    charlie = await organisations.create("charlie@example.com", "Charlie", PASSWORD, Ledger(database).opening)

    with pytest.raises(InvalidRequest, match="--email"):
        await organisations.user(None)

    assert alone == alice
    assert await organisations.user("charlie@example.com") == charlie


async def test_nobody_is_found_by_an_email_that_nobody_has(organisations: Organisations) -> None:
    with pytest.raises(NotFound, match=r"Nobody here has the e-mail bob@example\.com"):
        await organisations.user("bob@example.com")
