import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.errors import InvalidRequest
from leadline.management.acls import permits
from leadline.management.call import camel_case, camel_cased
from leadline.management.wire import TICKS_PER_CENT, cents_down, cents_of_parts, integer_of, time_of, timestamp

MOMENTS = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)


@given(MOMENTS)
def test_a_time_is_read_as_it_was_written(at: int):
    written = timestamp(at)
    assert len(written) == len("2027-03-31T12:00:00.000000Z")
    assert time_of(written, "at") == at


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01t00:00:00.123456789z", 123_456),
        ("1969-12-31 23:59:59Z", -1_000_000),
    ],
)
def test_times_may_have_fractions_and_offsets(text: str, at: int):
    assert time_of(text, "at") == at


@pytest.mark.parametrize(
    "text", ["", "now", "2027-03-31", "2027-03-31T12:00:00", "2027-02-30T12:00:00Z", "2027-03-31T25:00:00Z", "٢٠٢٧"]
)
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(InvalidRequest) as refused:
        time_of(text, "at")
    assert refused.value.param == "at"


@given(st.lists(st.integers(0, 10**14), max_size=20))
def test_cents_of_parts_add_up_and_none_is_a_cent_away(parts: list[int]):
    total = cents_down(sum(parts))
    cents = cents_of_parts(parts, total)
    assert sum(cents) == total
    assert all(abs(cent * TICKS_PER_CENT - part) < TICKS_PER_CENT for cent, part in zip(cents, parts, strict=True))


@given(st.integers(0, 2**63 - 1))
def test_an_integer_may_be_text(number: int):
    assert integer_of(number, "n") == integer_of(str(number), "n") == number


@pytest.mark.parametrize("value", [-1, 2**63, "", "-1", "+1", "1.0", "1e3", " 1", "٣", "9" * 40])
def test_what_is_no_integer_is_refused(value: int | str):
    with pytest.raises(InvalidRequest):
        integer_of(value, "n")


def test_names_are_one_in_either_spelling():
    assert [camel_case(name) for name in ("tpm", "expire_time", "expireTime", "eventFilter.userId", "_")] == [
        *("tpm", "expireTime", "expireTime", "eventFilter.userId", "")
    ]
    assert camel_cased({"a_b": [{"c_d": {"e": 1}}]}) == {"aB": [{"cD": {"e": 1}}]}
    with pytest.raises(InvalidRequest):
        camel_cased({"a_b": 1, "aB": 2})


@pytest.mark.parametrize(
    ("acls", "wanted", "permitted"),
    [
        (["api-key:endpoint:*"], "api-key:endpoint:chat", True),
        (["api-key:endpoint:chat"], "api-key:endpoint:chat", True),
        (["api-key:endpoint:chat"], "api-key:endpoint:*", False),
        (["api-key:model:*"], "api-key:endpoint:chat", False),
        (["api-key:model:*"], "api-key:model:hf:owner/name", True),
        ([], "api-key:model:x", False),
    ],
)
def test_a_star_permits_its_kind(acls: list[str], wanted: str, permitted: bool):
    assert permits(acls, wanted) is permitted
