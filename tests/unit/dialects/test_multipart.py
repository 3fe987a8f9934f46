"""Forms, however they are cut into pieces."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.dialects.multipart import LARGEST_HEAD_BYTES, MOST_PARTS, Multipart, Part, boundary_of
from leadline.errors import InvalidRequest

DISPOSITION = b"Content-Disposition: form-data; "


def form(*parts: bytes, boundary: bytes = b"b") -> bytes:
    """Each part from behind its disposition on."""
    return (
        b"".join(b"--" + boundary + b"\r\n" + DISPOSITION + part + b"\r\n" for part in parts)
        + b"--"
        + boundary
        + b"--\r\n"
    )


async def _pieces(body: bytes, cuts: list[int]) -> AsyncGenerator[bytes, None]:
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    for begin, end in pairwise(places):
        yield body[begin:end]


def read(body: bytes, cuts: list[int] | None = None, boundary: bytes = b"b") -> list[tuple[Part, bytes]]:
    async def read_all() -> list[tuple[Part, bytes]]:
        parts, multipart = [], Multipart(_pieces(body, cuts or []), boundary)
        while (part := await multipart.next_part()) is not None:
            held = b""
            while piece := await multipart.read():
                held += piece
            parts.append((part, held))
        return parts

    return asyncio.run(read_all())


@given(
    st.lists(st.binary(max_size=40) | st.just(b"\r\n--") | st.just(b"--b--") | st.just(b"\r\n--c\r\n"), max_size=4),
    st.lists(st.integers(0, 1000), max_size=30),
)
def test_each_part_comes_whole_wherever_the_body_is_cut(contents: list[bytes], cuts: list[int]) -> None:
    contents = [content for content in contents if b"\r\n--b" not in b"\r\n" + content]
    body = form(*(b'name="f"; filename="x"\r\n\r\n' + content for content in contents))
    assert read(body, cuts) == [(Part("f", "x"), content) for content in contents]


def test_a_part_that_is_not_read_is_passed_over() -> None:
    async def second() -> Part | None:
        multipart = Multipart(_pieces(form(b"name=a\r\n\r\nlong", b"name=b\r\n\r\n"), []), b"b")
        await multipart.next_part()
        return await multipart.next_part()

    assert asyncio.run(second()) == Part("b", None)


NAMES = {
    b'name="file"; filename="a b.txt"': Part("file", "a b.txt"),
    b"name=file; filename=a.txt": Part("file", "a.txt"),
    b'name="file"; filename=""': Part("file", ""),
    b'name="purpose"': Part("purpose", None),
    b'filename="a.txt"; name="file"': Part("file", "a.txt"),
    b'NAME="file"; FileName="a;b=c.txt"': Part("file", "a;b=c.txt"),
    b'name="file"; filename="a\\"b.txt"': Part("file", 'a"b.txt'),
    b'name="file"; filename="a%22b.txt"': Part("file", 'a"b.txt'),
    'name="file"; filename="ø.txt"'.encode(): Part("file", "ø.txt"),
    b'name="file"; filename="o.txt"; filename*=UTF-8\'\'%C3%B8.txt': Part("file", "ø.txt"),
    b'name="expires_after[seconds]"': Part("expires_after[seconds]", None),
}


@pytest.mark.parametrize("written", NAMES)
def test_names_are_read_as_clients_write_them(written: bytes) -> None:
    assert read(form(written + b"\r\n\r\nx")) == [(NAMES[written], b"x")]


def test_what_stands_before_and_behind_the_parts_is_passed_over() -> None:
    body = b"hello\r\n" + form(b"name=a\r\nContent-Type: text/plain\r\nX: y\r\n\r\nx") + b"and so on"
    assert read(body) == [(Part("a", None), b"x")]
    assert read(b"--b \t\r\n" + DISPOSITION + b"name=a\r\n\r\nx\r\n--b--") == [(Part("a", None), b"x")]


BROKEN = {
    "nothing": b"",
    "no boundary": b"hello",
    "another boundary": form(b"name=a\r\n\r\nx", boundary=b"c"),
    "cut in a head": form(b"name=a\r\n\r\nx")[:30],
    "cut in a content": form(b"name=a\r\n\r\nxxxxxxxx")[:-12],
    "cut in the last boundary": form(b"name=a\r\n\r\nx")[:-5],
    "words behind a boundary": b"--bx\r\n" + DISPOSITION + b"name=a\r\n\r\n\r\n--b--",
    "a long beginning": b"x" * 5000 + b"\r\n" + form(b"name=a\r\n\r\nx"),
    "no name": form(b"\r\n\r\nx"),
    "an empty name": form(b'name=""\r\n\r\nx'),
    "no disposition": b"--b\r\nContent-Type: text/plain\r\n\r\nx\r\n--b--\r\n",
    "another disposition": b'--b\r\nContent-Disposition: attachment; name="a"\r\n\r\nx\r\n--b--\r\n',
    "a long header": form(b"name=a; x=" + b"x" * LARGEST_HEAD_BYTES + b"\r\n\r\nx"),
    "a header without an end": form(b"name=a; x=" + b"x" * 10 * LARGEST_HEAD_BYTES),
    "many headers": form(b"name=a\r\n" + b"X: y\r\n" * 2000 + b"\r\nx"),
    "many parts": form(*[b"name=a\r\n\r\nx"] * (MOST_PARTS + 1)),
    "a name that is not UTF-8": form(b'name="\xff"\r\n\r\nx'),
    "a name of another charset": form(b"name=file; filename*=latin1''%FF\r\n\r\nx"),
    "a broken name": form(b"name=file; filename*=UTF-8''%FF\r\n\r\nx"),
    "base64": form(b"name=file; filename=a\r\nContent-Transfer-Encoding: base64\r\n\r\neA=="),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_form_is_refused_as_the_file_s_fault(what: str) -> None:
    for cuts in ([], list(range(0, 200))):
        with pytest.raises(InvalidRequest) as refused:
            read(BROKEN[what], cuts)
        assert refused.value.param == "file"


def test_as_many_parts_as_are_allowed_are_read() -> None:
    assert len(read(form(*[b"name=a\r\n\r\nx"] * MOST_PARTS))) == MOST_PARTS


@pytest.mark.parametrize(
    "content_type",
    ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=", "multipart/mixed; boundary=b"],
)
def test_what_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        boundary_of(content_type)


@pytest.mark.parametrize(
    "content_type",
    [
        'multipart/form-data; boundary="b c"; x=y',
        "Multipart/Form-Data;BOUNDARY=b%20c",
        "multipart/form-data; boundary=b",
    ],
)
def test_boundaries_come_with_and_without_quotes(content_type: str) -> None:
    assert boundary_of(content_type) in (b"b c", b"b%20c", b"b")
