"""What becomes of the child that decodes images, and of who waits for it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from leadline.errors import InvalidRequest, Unavailable
from leadline.images import child, decode
from leadline.images.decode import ImageDecoder
from tests.scripted.pictures import encoded, stripes

DEADLINE_SECONDS = 30
GOOD = encoded(stripes("RGB"), "PNG")


@pytest.fixture
async def decoder() -> AsyncIterator[ImageDecoder]:
    made = ImageDecoder()
    yield made
    await made.close()


def test_parent_and_child_speak_of_the_same():
    assert (decode._QUESTION.format, decode._ANSWER.format) == (child.QUESTION.format, child.ANSWER.format)
    assert decode._FORMS == child.FORMS
    for state in ("READY", "DECODED", "DAMAGED", "TOO_LARGE", "TOO_MUCH_MEMORY"):
        assert getattr(decode, f"_{state}") == getattr(child, state)


async def test_the_child_has_nothing_of_ours(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LEADLINE_SECRET", "secret")
    await decoder.decode(GOOD, 48)
    process = Path(f"/proc/{child_of(decoder)}")
    assert b"LEADLINE" not in (process / "environ").read_bytes()
    assert sorted(path.name for path in (process / "fd").iterdir()) == ["0", "1", "2"]
    limits = {line[:26].strip(): line[26:].split()[:2] for line in (process / "limits").read_text().splitlines()[1:]}
    assert limits["Max open files"] == limits["Max processes"] == limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]
    assert limits["Max address space"][1] != "unlimited"


def child_of(decoder: ImageDecoder) -> int:
    assert decoder._process is not None
    return decoder._process.pid


async def test_one_child_serves_many_images(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(decode, "_MOST_IMAGES", 3)
    children = []
    for _ in range(4):
        await asyncio.gather(*(decoder.decode(GOOD, 48) for _ in range(1)))
        children.append(child_of(decoder))
    assert children[0] == children[1] == children[2] != children[3]


@pytest.mark.parametrize(
    ("end", "why"),
    [(signal.SIGSEGV, "could not be decoded"), (signal.SIGKILL, "could not be decoded"), (signal.SIGPROF, "too long")],
)
async def test_who_ends_the_child_is_refused_and_the_next_is_served(decoder: ImageDecoder, end: int, why: str):
    await decoder.decode(GOOD, 48)
    pid = child_of(decoder)
    os.kill(pid, signal.SIGSTOP)
    first = asyncio.create_task(decoder.decode(GOOD, 48))
    second = asyncio.create_task(decoder.decode(GOOD, 48))
    await asyncio.sleep(0)
    os.kill(pid, end)
    with suppress(ProcessLookupError):  # it is gone already
        os.kill(pid, signal.SIGCONT)
    with pytest.raises(InvalidRequest, match=why):
        await first
    assert (await second).width == 32
    assert child_of(decoder) != pid


async def test_a_child_that_hangs_is_ended(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch):
    await decoder.decode(GOOD, 48)
    os.kill(child_of(decoder), signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(decode, "_DECODE_SECONDS", 0.05)
        with pytest.raises(InvalidRequest, match="too long"):
            await decoder.decode(GOOD, 48)
    assert (await decoder.decode(GOOD, 48)).width == 32


async def test_who_gives_up_takes_no_other_answer(decoder: ImageDecoder):
    await decoder.decode(GOOD, 48)
    os.kill(child_of(decoder), signal.SIGSTOP)
    given_up = asyncio.create_task(decoder.decode(GOOD, 48))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert (await decoder.decode(encoded(Image.new("RGB", (8, 9)), "PNG"), 48)).height == 9


async def test_a_child_that_is_gone_between_two_images_costs_none(decoder: ImageDecoder):
    await decoder.decode(GOOD, 48)
    process = decoder._process
    assert process is not None
    process.kill()
    await process.wait()
    assert (await decoder.decode(GOOD, 48)).width == 32


async def test_without_a_child_images_are_unavailable(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch, tmp_path):
    monkeypatch.setattr(decode, "_CHILD", tmp_path / "absent.py")
    with pytest.raises(Unavailable):
        await decoder.decode(GOOD, 48)


@pytest.mark.parametrize(("bound", "most"), [("_MOST_WAITING", 1), ("_MOST_WAITING_BYTES", 2 * len(GOOD) - 1)])
async def test_more_than_may_wait_are_sent_away(
    decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch, bound: str, most: int
):
    monkeypatch.setattr(decode, bound, most)
    await decoder.decode(GOOD, 48)
    os.kill(child_of(decoder), signal.SIGSTOP)
    running, waiting = (asyncio.create_task(decoder.decode(GOOD, 48)) for _ in range(2))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await decoder.decode(GOOD, 48)
    os.kill(child_of(decoder), signal.SIGCONT)
    assert [(await task).width for task in (running, waiting)] == [32, 32]


async def test_closing_ends_what_runs_and_what_waits(decoder: ImageDecoder):
    await decoder.decode(GOOD, 48)
    os.kill(child_of(decoder), signal.SIGSTOP)
    running, waiting = (asyncio.create_task(decoder.decode(GOOD, 48)) for _ in range(2))
    await asyncio.sleep(0)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await decoder.close()
    with pytest.raises(InvalidRequest):
        await running
    with pytest.raises(Unavailable):
        await waiting
    assert decoder._process is None


async def test_a_child_that_answers_without_end_is_ended(decoder: ImageDecoder, monkeypatch: pytest.MonkeyPatch):
    """What came over it may speak for it."""
    await decoder.decode(GOOD, 48)
    monkeypatch.setattr(decode, "_LARGEST_ANSWER_BYTES", 10)
    with pytest.raises(InvalidRequest, match="could not be decoded"):
        await decoder.decode(GOOD, 48)
    assert decoder._process is None
