import re
import time
import uuid

from leadline.ids import new_id, new_uuid


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
