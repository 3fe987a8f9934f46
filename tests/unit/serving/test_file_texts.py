"""What a file says: its text, or its lines."""

from contextlib import aclosing

import pytest

from leadline.errors import InvalidRequest
from leadline.serving import file_texts
from leadline.serving.file_texts import lines_of, text_of
from leadline.serving.files import Files
from tests.unit.serving.file_scenes import ALICE, keep

TEXTS = {
    "plain": (b"one\ntwo\r\n\tthree\x0c", "one\ntwo\r\n\tthree\x0c"),
    "not ASCII": ("grün 日本 🎈".encode(), "grün 日本 🎈"),
    "marked": (b"\xef\xbb\xbf{}", "{}"),
    "empty": (b"", ""),
}


@pytest.mark.parametrize("what", TEXTS)
async def test_a_text_is_read(store: Files, what: str) -> None:
    content, text = TEXTS[what]
    file = await keep(store, content)
    async with store.open(ALICE, file.id) as opened:
        assert await text_of(opened) == text


NO_TEXTS = {
    "an image": b"\x89PNG\r\n\x1a\n",
    "UTF-16": "hi".encode("utf-16"),
    "a PDF": b"%PDF-1.7\nhello",
    "zeros": b"a\0",
}


@pytest.mark.parametrize("what", NO_TEXTS)
async def test_what_is_no_text_is_refused_with_what_can_be_read(store: Files, what: str) -> None:
    file = await keep(store, NO_TEXTS[what])
    async with store.open(ALICE, file.id) as opened:
        with pytest.raises(InvalidRequest, match="Markdown") as refused:
            await text_of(opened)
    assert refused.value.param == "file_id"


async def test_too_much_text_is_refused(store: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_texts, "LARGEST_TEXT_BYTES", 4)
    file = await keep(store)
    async with store.open(ALICE, file.id) as opened:
        with pytest.raises(InvalidRequest, match="5 bytes"):
            await text_of(opened)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\r\n\nb", [b"a", b"", b"b"]),
        (b"x" * 300_000 + b"\n" + b"y" * 300_000, [b"x" * 300_000, b"y" * 300_000]),
    ],
)
async def test_lines_are_whole_wherever_pieces_end(store: Files, content: bytes, lines: list[bytes]) -> None:
    file = await keep(store, content)
    async with store.open(ALICE, file.id) as opened, aclosing(lines_of(opened)) as read:
        assert [line async for line in read] == lines


async def test_a_line_that_is_too_long_is_refused_by_its_number(store: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_texts, "LONGEST_LINE_BYTES", 4)
    file = await keep(store, b"one\nfour\nfive!\n")
    async with store.open(ALICE, file.id) as opened, aclosing(lines_of(opened)) as read:
        assert [await anext(read), await anext(read)] == [b"one", b"four"]
        with pytest.raises(InvalidRequest, match="Line 3"):
            await anext(read)
