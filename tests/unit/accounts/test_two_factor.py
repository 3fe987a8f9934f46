import asyncio

import pyotp
import pytest

from leadline.accounts.actor import COMMAND_LINE, Actor
from leadline.accounts.two_factor import RECOVERY_CODES, TwoFactor
from leadline.accounts.users import User
from leadline.errors import InvalidRequest
from leadline.storage.sealed import Sealer
from tests.unit.accounts.people import NOON, SECOND, People

ALICE = Actor("usr_alice", "alice@example.com")


@pytest.fixture
def two_factor(people: People) -> TwoFactor:
    return TwoFactor(people.database, Sealer(b"s" * 32), people.watch)


async def enrolled(people: People, two_factor: TwoFactor) -> tuple[User, pyotp.TOTP, list[str]]:
    await people.create()
    begun = await two_factor.begin(await people.user())
    totp = pyotp.TOTP(begun.secret)
    codes = await two_factor.confirm(await people.user(), totp.at(people.watch.now // SECOND), ALICE)
    people.watch.now += 30 * SECOND
    return await people.user(), totp, codes


def code(people: People, totp: pyotp.TOTP, steps: int = 0) -> str:
    return totp.at(people.watch.now // SECOND + 30 * steps)


async def test_it_is_off_until_its_first_code_confirms_it(people: People, two_factor: TwoFactor) -> None:
    await people.create()
    alice = await people.user()
    begun = await two_factor.begin(alice)

    assert begun.uri.startswith("otpauth://totp/Leadline:alice%40example.com?secret=")
    assert begun.svg.startswith("<svg")
    assert "style=" not in begun.svg
    assert await two_factor.pending(alice) == begun
    assert not (await people.user()).two_factor
    assert not await two_factor.check(alice, code(people, pyotp.TOTP(begun.secret)))
    with pytest.raises(InvalidRequest, match="not right"):
        await two_factor.confirm(alice, "000000", ALICE)

    codes = await two_factor.confirm(alice, code(people, pyotp.TOTP(begun.secret)), ALICE)

    assert len(set(codes)) == RECOVERY_CODES
    assert (await people.user()).two_factor
    assert await two_factor.pending(alice) is None
    with pytest.raises(InvalidRequest, match="on already"):
        await two_factor.begin(alice)


async def test_a_code_is_accepted_once_also_of_many_at_once(people: People, two_factor: TwoFactor) -> None:
    alice, totp, _ = await enrolled(people, two_factor)
    text = code(people, totp)

    at_once = await asyncio.gather(*(two_factor.check(alice, text) for _ in range(20)))

    assert at_once.count(True) == 1
    assert not await two_factor.check(alice, text)
    people.watch.now += 30 * SECOND
    assert await two_factor.check(alice, f" {code(people, totp)[:3]} {code(people, totp)[3:]} ")


async def test_the_code_that_confirmed_does_not_sign_in(people: People, two_factor: TwoFactor) -> None:
    alice, totp, _ = await enrolled(people, two_factor)

    assert not await two_factor.check(alice, code(people, totp, -1))


async def test_the_phones_clock_may_be_half_a_minute_off_and_no_more(people: People, two_factor: TwoFactor) -> None:
    alice, totp, _ = await enrolled(people, two_factor)
    people.watch.now += 300 * SECOND

    accepted = [await two_factor.check(alice, code(people, totp, steps)) for steps in (-2, 2, -1, 0, 1)]

    assert accepted == [False, False, True, True, True]
    # An earlier code than one that was accepted is none.
    assert not await two_factor.check(alice, code(people, totp, 0))


async def test_a_recovery_code_is_accepted_once_however_it_is_written(people: People, two_factor: TwoFactor) -> None:
    alice, _, codes = await enrolled(people, two_factor)

    assert await two_factor.check(alice, codes[0])
    assert not await two_factor.check(alice, codes[0])
    assert await two_factor.check(alice, codes[1].upper().replace("-", " "))
    assert not await two_factor.check(alice, "aaaa-aaaa-aaaa")
    assert not await two_factor.check(alice, "")
    assert await two_factor.recovery_codes_left(alice.id) == RECOVERY_CODES - 2


async def test_new_recovery_codes_end_the_old_ones(people: People, two_factor: TwoFactor) -> None:
    alice, _, old = await enrolled(people, two_factor)

    new = await two_factor.renew_recovery_codes(alice, ALICE)

    assert not await two_factor.check(alice, old[0])
    assert await two_factor.check(alice, new[0])


async def test_turned_off_it_asks_for_nothing_and_its_codes_are_gone(people: People, two_factor: TwoFactor) -> None:
    alice, totp, codes = await enrolled(people, two_factor)

    await two_factor.turn_off(alice, COMMAND_LINE)
    await two_factor.turn_off(await people.user(), COMMAND_LINE)

    assert not (await people.user()).two_factor
    assert not await two_factor.check(alice, code(people, totp))
    assert not await two_factor.check(alice, codes[0])
    with pytest.raises(InvalidRequest, match="is off"):
        await two_factor.renew_recovery_codes(alice, ALICE)
    assert [(row[1], row[2], row[5]) for row in await people.logged()] == [
        ("usr_alice", "users two-factor", {"two_factor": True}),
        ("command line", "users two-factor", {"two_factor": False}),
    ]


async def test_the_database_holds_neither_secret_nor_recovery_codes(people: People, two_factor: TwoFactor) -> None:
    alice, totp, codes = await enrolled(people, two_factor)

    kept = str(await people.database.rows("SELECT * FROM users")) + str(
        await people.database.rows("SELECT * FROM recovery_codes")
    )
    assert totp.secret not in kept
    assert not any(one in kept or one.replace("-", "") in kept for one in codes)
    other = TwoFactor(people.database, Sealer(b"o" * 32), people.watch)
    assert not await other.check(alice, code(people, totp))
    assert people.watch.now == NOON + 30 * SECOND
