"""Messages of too many fields are found before they are unpacked, wherever the fields lie."""

import pytest

from leadline.dialects.xai import wire
from leadline.dialects.xai.protos import chat
from leadline.errors import InvalidRequest

KIND = chat.GetCompletionsRequest.DESCRIPTOR
MOST = 1000
TOO_MANY = {
    "empty messages": b"\x0a\x00" * (MOST + 1),
    "empty texts": b"\x62\x00" * (MOST + 1),
    "parts of a message": b"\x0a\xd2\x0f" + b"\x0a\x00" * (MOST + 1),
    "numbers": b"\x40\x01" * (MOST + 1),
    "numbers of four and of eight bytes": b"\x75\x00\x00\x80\x3f\xc1\x3e12345678" * (MOST // 2 + 1),
    "fields that nobody knows": b"\xc0\x3e\x01" * (MOST + 1),
}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(wire, "MOST_FIELDS", MOST)


@pytest.mark.parametrize("content", TOO_MANY.values(), ids=TOO_MANY)
def test_one_field_more_than_there_may_be_is_refused(content):
    with pytest.raises(InvalidRequest, match="more than 1000 fields"):
        wire.refuse_crowds(content, KIND)


def test_a_long_message_of_few_fields_is_none_of_them():
    text = chat.Content(text="\x0a\x00" * 5 * MOST)
    asked = chat.GetCompletionsRequest(messages=[chat.Message(content=[text], role=1)], stop=["x"] * 8, max_tokens=300)
    content = asked.SerializeToString()
    assert wire._count(content, KIND) == 13
    wire.refuse_crowds(content, KIND)


def test_what_is_no_message_is_left_to_the_parser():
    for noise in (b"\xff" * 2000, b"\x0b" * 5000, b"\x0a\xff\xff\xff\xff\x0f" + bytes(900), b"\x0a\x01" * 900):
        wire.refuse_crowds(noise, KIND)
