import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.storage.sealed import Sealer

SECRET = b"a secret of this instance's own!"
PLACE = "replays org_alice 7f"
sealer = Sealer(SECRET)


@given(st.binary(max_size=1000), st.text(max_size=50).filter(str.isascii))
def test_whatever_is_sealed_opens_at_its_place_with_its_secret(content: bytes, place: str) -> None:
    assert Sealer(SECRET).open(sealer.seal(content, place), place) == content


@pytest.mark.parametrize("place", ["replays org_charlie 7f", "replays org_alice 7", "", "replays org_alice 7f "])
def test_it_does_not_open_at_another_place(place: str) -> None:
    assert sealer.open(sealer.seal(b"an answer", PLACE), place) is None


@pytest.mark.parametrize("secret", [b"a secret of this instance's own?", b"", SECRET + b"\0"])
def test_it_does_not_open_with_another_secret(secret: bytes) -> None:
    assert Sealer(secret).open(sealer.seal(b"an answer", PLACE), PLACE) is None


def test_it_does_not_open_with_a_single_bit_changed() -> None:
    sealed = sealer.seal(b"an answer", PLACE)

    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        assert sealer.open(bytes(changed), PLACE) is None


def test_it_does_not_open_where_a_part_of_it_is_missing() -> None:
    sealed = sealer.seal(b"an answer", PLACE)

    assert [sealer.open(sealed[:length], PLACE) for length in range(len(sealed))] == [None] * len(sealed)


def test_what_is_sealed_tells_neither_its_content_nor_that_it_is_the_same() -> None:
    first, second = sealer.seal(b"an answer", PLACE), sealer.seal(b"an answer", PLACE)

    assert first != second
    assert b"an answer" not in first
