import re
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.ids import first_uuid_at, new_id, new_ordered_id, new_uuid


def test_an_id_begins_with_the_time_in_milliseconds_so_that_later_ids_sort_later() -> None:
    before = time.time_ns() // 1_000_000
    made = new_uuid()
    after = time.time_ns() // 1_000_000

    assert before <= made.int >> 80 <= after


def test_an_id_is_a_uuid_of_version_7() -> None:
    made = [new_uuid() for _ in range(1000)]

    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}


def test_ids_made_in_the_same_millisecond_differ() -> None:
    assert len({new_uuid() for _ in range(10_000)}) == 10_000


def test_a_stored_thing_has_an_id_that_names_its_kind() -> None:
    assert re.fullmatch(r"org_[0-9a-f]{32}", new_id("org"))


def test_ids_of_a_log_are_in_their_order_also_where_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made = [new_ordered_id("aud") for _ in range(5000)]
    newest = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: newest - 10**9)
    made += [new_ordered_id("aud") for _ in range(5000)]

    assert made == sorted(set(made))
    parsed = [uuid.UUID(one.removeprefix("aud_")) for one in made]
    assert {(one.version, one.variant) for one in parsed} == {(7, uuid.RFC_4122)}
    assert abs((parsed[0].int >> 80) - newest // 1_000_000) < 60_000


@given(st.integers(1, 2**47), st.integers(0, 999), st.integers(0, 2**74 - 1))
def test_the_first_id_of_a_moment_parts_earlier_ids_from_later_ones(
    milliseconds: int, microseconds: int, random: int
) -> None:
    first = str(first_uuid_at(milliseconds * 1000 + microseconds))

    assert str(uuid_at(milliseconds - 1, random)) < first <= str(uuid_at(milliseconds, random))


def test_the_first_id_of_now_is_not_above_an_id_made_after_it() -> None:
    first = first_uuid_at(time.time_ns() // 1000)

    assert first <= new_uuid()


def uuid_at(milliseconds: int, random: int) -> uuid.UUID:
    """A UUIDv7 of that time with these random bits."""
    low = random & (1 << 62) - 1
    return uuid.UUID(int=milliseconds << 80 | 0x7 << 76 | random >> 62 << 64 | 0b10 << 62 | low)
