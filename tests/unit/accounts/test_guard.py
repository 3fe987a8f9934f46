import pytest

from leadline.accounts.guard import MOST_KNOWN, Guard, TooManyAttempts, network_of
from tests.unit.accounts.people import SECOND, Watch

ALICE, BOB = "alice@example.com", "bob@example.com"
HERE, THERE = "192.0.2.1", "198.51.100.7"


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def guard(watch: Watch) -> Guard:
    return Guard(watch)


def waits(guard: Guard, email: str = ALICE, address: str = HERE, purpose: str = "sign in") -> int:
    """How many seconds to wait; 0: the attempt counted."""
    try:
        guard.attempt(purpose, email, address)
    except TooManyAttempts as refused:
        return refused.retry_after_seconds
    return 0


def test_each_failure_after_some_doubles_the_wait_up_to_a_quarter_of_an_hour(guard: Guard, watch: Watch) -> None:
    free = [waits(guard) for _ in range(5)]
    longer = []
    for _ in range(14):
        seconds = waits(guard)
        longer.append(seconds)
        watch.now += seconds * SECOND
        assert waits(guard) == 0

    assert free == [0] * 5
    assert longer == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *[900] * 4]


def test_who_has_to_wait_is_told_how_long() -> None:
    assert str(TooManyAttempts(1)) == "Too many attempts. Try again in 1 second."
    assert str(TooManyAttempts(90)) == "Too many attempts. Try again in 90 seconds."


def test_an_attempt_that_comes_too_early_makes_nothing_longer(guard: Guard, watch: Watch) -> None:
    while not waits(guard):
        pass
    for _ in range(1000):
        assert waits(guard) == 1
    watch.now += SECOND

    assert waits(guard) == 0


def test_who_is_attacked_from_elsewhere_signs_in_within_a_minute(guard: Guard, watch: Watch) -> None:
    for number in range(2000):
        waits(guard, address=f"10.0.{number // 250}.{number % 250}")
        watch.now += SECOND

    assert waits(guard, address=THERE) <= 60


def test_one_address_cannot_try_many_emails(guard: Guard) -> None:
    counted = sum(waits(guard, f"user{number}@example.com") == 0 for number in range(1000))

    assert counted == 30
    assert waits(guard, BOB, THERE) == 0


def test_known_or_not_an_email_is_told_the_same(guard: Guard) -> None:
    told = [[waits(guard, email, address) for _ in range(8)] for email, address in ((ALICE, HERE), ("no@one", THERE))]

    assert told[0] == told[1]


def test_success_begins_anew_for_its_email_and_not_for_the_address(guard: Guard, watch: Watch) -> None:
    for _ in range(4):
        waits(guard)
    guard.succeeded("sign in", ALICE, HERE)
    again = [waits(guard) for _ in range(6)]
    # Who owns one account does not get to guess at others with it.
    counted = 0
    for number in range(200):
        counted += waits(guard, f"user{number}@example.com") == 0
        if waits(guard, ALICE, HERE) == 0:
            guard.succeeded("sign in", ALICE, HERE)

    assert again == [0, 0, 0, 0, 0, 1]
    assert counted < 30


def test_purposes_and_writings_of_one_email(guard: Guard) -> None:
    for _ in range(5):
        waits(guard)

    assert waits(guard, purpose="reset") == 0
    assert waits(guard, " ALICE@example.com ") == 1


def test_a_network_of_ipv6_counts_as_one_address(guard: Guard) -> None:
    assert network_of("2001:db8::1") == network_of("2001:db8::ffff:2%eth0") == "2001:db8::/64"
    assert network_of("::ffff:192.0.2.1") == "192.0.2.1"
    assert network_of("unix") == "unix"
    counted = sum(waits(guard, f"user{number}@example.com", f"2001:db8::{number:x}") == 0 for number in range(100))
    assert counted == 30


def test_attempts_are_forgotten_after_an_hour_and_memory_is_bounded(guard: Guard, watch: Watch) -> None:
    while not waits(guard):
        pass
    watch.now += 3601 * SECOND
    assert waits(guard) == 0
    for number in range(MOST_KNOWN):
        waits(guard, f"user{number}@example.com", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")

    assert len(guard._known) == MOST_KNOWN


def test_who_is_refused_makes_nobody_forget(guard: Guard) -> None:
    while not waits(guard, address=THERE):
        pass
    for number in range(MOST_KNOWN):
        waits(guard, email=f"{number}@example.com")

    assert waits(guard, address=THERE) > 0
