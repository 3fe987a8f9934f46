"""Prompts with images for llama.cpp, and what their tokens count as."""

import base64
import struct
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.chat.events import Finished, Started
from leadline.chat.request import ChatRequest, Image, Message
from leadline.engines.format.family import PLAIN
from leadline.engines.format.output import OutputParser
from leadline.engines.format.places import placed
from leadline.engines.llamacpp.completion import CompletionDecoder
from leadline.engines.llamacpp.images import MARKER, Illustrated, Layout, Picture, PictureSizes, illustrated
from leadline.engines.upstream.client import ChatClient
from leadline.engines.upstream.http import ConnectionBroken
from leadline.errors import EngineFailed, InvalidRequest

COUNTS = st.lists(st.integers(0, 5), min_size=1, max_size=5)


def image(content: bytes, kind: str = "image/png") -> Image:
    return Image(f"data:{kind};base64,{base64.b64encode(content).decode()}")


def png(width: int = 3, height: int = 4, kind: bytes = b"IHDR") -> bytes:
    """As much of one as is looked at."""
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, kind, width, height)


PNG, OTHER = png(), png(5)


def asked(*images: Image) -> ChatRequest:
    return ChatRequest("m", (Message("user", images),))


def prompt(request: ChatRequest) -> str:
    return "; ".join(one.url for one in placed(request).images)


def test_images_go_in_the_order_of_their_places():
    request = asked(image(PNG), image(OTHER))
    first, second = prompt(request).split("; ")

    found = illustrated(f"a{second}b{first}c", request)

    assert found.body == {
        "prompt_string": f"a{MARKER}b{MARKER}c",
        "multimodal_data": [base64.b64encode(content).decode() for content in (OTHER, PNG)],
    }


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        image(PNG, "image/gif").url,
        image(PNG, "image/jpeg").url,
        image(b"GIF89a").url,
        image(b"\xff\xd8\xff and more").url,
        image(PNG[:-1]).url,
        image(png(4097)).url,
        image(png(1, 4097)).url,
        image(png(0, 0)).url,
        image(png(kind=b"CgBI")).url,
        image(b"").url,
        image(PNG).url + "!",
        image(PNG).url.replace(";base64", ""),
        "data:image/png;base64",
        "",
    ],
)
def test_what_is_no_image_never_reaches_the_engine(url: str):
    request = asked(Image(url))

    with pytest.raises(InvalidRequest, match="as PNG") as refused:
        illustrated(prompt(request), request)

    assert refused.value.param == "messages"


@pytest.mark.parametrize("shows", ["nothing", "{0}{0}{1}", "{0}", "{1}"])
def test_a_template_that_loses_or_repeats_an_image_is_told(shows: str):
    request = asked(image(PNG), image(PNG))

    with pytest.raises(InvalidRequest, match="each image of this conversation once"):
        illustrated(shows.format(*prompt(request).split("; ")), request)


@given(COUNTS, st.lists(st.integers(0, 5), min_size=4, max_size=4), st.integers(0, 60))
def test_of_what_was_cached_the_texts_are_told(texts: list[int], pictures: list[int], cached: int):
    layout = Layout(tuple(texts), tuple(pictures[: len(texts) - 1]))
    tokens = [
        kind for text, picture in zip(texts, [*layout.pictures, 0], strict=True) for kind in "t" * text + "p" * picture
    ]

    assert layout.prompt_tokens == len(tokens)
    assert layout.texts_within(cached) == tokens[:cached].count("t")
    assert layout.image_tokens(len(tokens)) == tokens.count("p")


def test_image_tokens_are_what_the_engine_took_beyond_the_texts_cached_or_not():
    decoder = CompletionDecoder(OutputParser(PLAIN, None, ()), None, Layout((10, 5), (16,)))

    begun = decoder.decode(b'{"prompt_progress": {"total": 31, "cache": 28}}')
    ended = decoder.decode(b'{"stop": true, "tokens_evaluated": 31, "timings": {"cache_n": 28}}')

    assert begun == [Started(31, 12, 16)]
    [finished] = [event for event in ended if isinstance(event, Finished)]
    usage = finished.usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.image_tokens) == (31, 12, 16)


class Counting:
    """Counts 7 tokens around a picture, one for a text between two, and as many for a picture as its base64 is long."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.questions: list[list[str]] = []
        self.failure = failure

    async def post(self, path: str, body: dict[str, Any], _: float) -> dict[str, Any]:
        if self.failure is not None:
            raise self.failure
        if path == "/tokenize":
            return {"tokens": [1]}
        content = body["messages"][0]["content"]
        urls = [part["image_url"]["url"].partition(",")[2] for part in content if part["type"] == "image_url"]
        assert [part["type"] for part in content] == ["text", *["image_url", "text"] * len(urls)]
        self.questions.append(urls)
        return {"input_tokens": 7 + len(urls) - 1 + sum(map(len, urls))}


async def test_a_picture_is_counted_once_by_what_it_adds():
    engine, sizes = Counting(), PictureSizes()
    a, b = Picture("aaaa", b"a"), Picture("bb", b"b")

    assert await sizes.of(cast(ChatClient, engine), [a, b, a]) == (4, 2, 4)
    assert await sizes.of(cast(ChatClient, engine), [b, a]) == (2, 4)
    assert engine.questions == [["aaaa"], ["aaaa", "aaaa"], ["bb"]]


@pytest.mark.parametrize("failure", [EngineFailed("status 500"), InvalidRequest("cannot run this request")])
async def test_a_picture_that_the_engine_cannot_read_is_the_requests_fault(failure: Exception):
    with pytest.raises(InvalidRequest, match="cannot read an image") as refused:
        await PictureSizes().of(cast(ChatClient, Counting(failure)), [Picture("aaaa", b"a")])
    assert refused.value.param == "messages"


async def test_a_picture_that_ends_the_engine_is_not():
    with pytest.raises(ConnectionBroken):
        await PictureSizes().of(cast(ChatClient, Counting(ConnectionBroken("gone"))), [Picture("aaaa", b"a")])


def test_an_illustrated_prompt_has_a_marker_for_each_picture():
    body = Illustrated(("", "", ""), (Picture("a", b"a"), Picture("a", b"a"))).body

    assert body["prompt_string"].count(MARKER) == len(body["multimodal_data"]) == 2
