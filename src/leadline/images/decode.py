"""Turns images into plain pixels, in a child process that may fall over any of them.

The child serves one image after another, and is started at the first. Whoever's image ends it is refused; the next
image gets a new one.
"""

import asyncio
import contextlib
import signal
import struct
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from leadline.errors import InvalidRequest, Unavailable
from leadline.images.sniff import Header, sniff

Form = Literal["raw", "png"]

# What an engine may ask for. The child's memory is measured with it.
LARGEST_LONGEST_SIDE_PIXELS = 2048
_LARGEST_ANSWER_BYTES = 4 * LARGEST_LONGEST_SIDE_PIXELS**2
_CHILD = Path(__file__).with_name("child.py")
_QUESTION = struct.Struct("<4sBII")
_ANSWER = struct.Struct("<BIII")
_FORMS: tuple[Form, ...] = ("raw", "png")
_READY, _DECODED, _DAMAGED, _TOO_LARGE, _TOO_MUCH_MEMORY = range(5)
_REFUSALS = {
    _DAMAGED: "The image is damaged or cut short.",
    _TOO_LARGE: "The image is larger than its header says.",
    _TOO_MUCH_MEMORY: "The image takes too much memory to decode. Send it smaller.",
}
_TOO_SLOW = "The image takes too long to decode. Send it smaller."
_BROKEN = "The image could not be decoded: it is damaged, or it attacks the decoder."
_START_SECONDS = 30.0
_END_SECONDS = 5.0
# The child has its own bound of 2 s of CPU time; this one is for a child that hangs.
_DECODE_SECONDS = 20.0
_MOST_WAITING = 64
_MOST_WAITING_BYTES = 256 * 1024 * 1024
_WAIT_SECONDS = 30.0
# A child that decoded so many makes way for a new one.
_MOST_IMAGES = 1000


@dataclass(frozen=True, slots=True)
class Picture:
    """`content` is a PNG, or the rows of 3 bytes a pixel, red first, from top to bottom."""

    width: int
    height: int
    form: Form
    content: bytes


class ImageDecoder:
    """One child, one image at a time; 64 wait, of 256 MiB together. Whoever makes it closes it."""

    def __init__(self) -> None:
        self._process: Process | None = None
        self._images = 0
        self._free = asyncio.Lock()
        self._waiting = self._waiting_bytes = 0
        self._closed = False

    async def decode(self, content: bytes, longest_side: int, form: Form = "png") -> Picture:
        """The image as RGB, upright and on white, shrunk to at most `longest_side` pixels on a side.

        InvalidRequest where it is no image of ours or too large, Unavailable where too many wait.
        """
        assert 0 < longest_side <= LARGEST_LONGEST_SIDE_PIXELS
        header = sniff(content)
        async with self._turn(len(content)):
            process = await self._child()
            answered = False
            try:
                async with asyncio.timeout(_DECODE_SECONDS):
                    picture = await self._ask(process, header, content, longest_side, form)
                answered = True
            except TimeoutError:
                raise InvalidRequest(_TOO_SLOW) from None
            except (ConnectionError, asyncio.IncompleteReadError):
                raise InvalidRequest(await _why(process)) from None
            finally:
                if not answered:
                    await self._drop()
        if isinstance(picture, int):
            raise InvalidRequest(_REFUSALS.get(picture, _REFUSALS[_DAMAGED]))
        return picture

    async def close(self) -> None:
        """End the child, whatever it does. Who waits for it is sent away."""
        self._closed = True
        if self._process is not None:
            _kill(self._process)
        # Whoever waits for the child's answer sees its end, and lets go.
        async with self._free:
            await self._drop()

    @asynccontextmanager
    async def _turn(self, size: int) -> AsyncIterator[None]:
        """The child is this image's, of `size` bytes, which waits its turn in memory."""
        if self._waiting >= _MOST_WAITING or self._waiting_bytes + size > _MOST_WAITING_BYTES:
            raise Unavailable("Too many images are being decoded. Try again in a moment.")
        self._waiting += 1
        self._waiting_bytes += size
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._free.acquire()
        except TimeoutError:
            raise Unavailable("Too many images are being decoded. Try again in a moment.") from None
        finally:
            self._waiting -= 1
            self._waiting_bytes -= size
        try:
            yield
        finally:
            self._free.release()

    async def _ask(
        self, process: Process, header: Header, content: bytes, longest_side: int, form: Form
    ) -> Picture | int:
        """The picture, or the state that says why there is none."""
        assert process.stdin is not None
        assert process.stdout is not None
        head = _QUESTION.pack(header.kind.encode(), _FORMS.index(form), longest_side, len(content))
        process.stdin.write(head)
        process.stdin.write(content)
        await process.stdin.drain()
        self._images += 1
        state, width, height, size = _ANSWER.unpack(await process.stdout.readexactly(_ANSWER.size))
        if state != _DECODED:
            return int(state)
        if size > _LARGEST_ANSWER_BYTES:
            raise InvalidRequest(_BROKEN)
        return Picture(width, height, form, await process.stdout.readexactly(size))

    async def _child(self) -> Process:
        """The one that runs, or a new one."""
        if self._closed:
            raise Unavailable("Images cannot be decoded any more: the server stops.")
        running = self._process
        if running is not None and _alive(running) and self._images < _MOST_IMAGES:
            return running
        await self._drop()
        ready = False
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", str(_CHILD)), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}, cwd="/"
            )
            self._images = 0
            assert process.stdout is not None
            async with asyncio.timeout(_START_SECONDS):
                state, *_ = _ANSWER.unpack(await process.stdout.readexactly(_ANSWER.size))
            ready = state == _READY
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            raise Unavailable("Images cannot be decoded now. Try again in a moment.") from None
        finally:
            if not ready:
                await self._drop()
        return process

    async def _drop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)


def _alive(process: Process) -> bool:
    return process.returncode is None and process.stdin is not None and not process.stdin.is_closing()


def _kill(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def _end(process: Process) -> None:
    _kill(process)
    # Not `wait`, which waits for a pipe that nobody reads.
    await process.communicate()


async def _why(process: Process) -> str:
    """What a child's end means for the image over which it ended. It is not killed before its end is known."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_END_SECONDS):
            await process.wait()
    return _TOO_SLOW if process.returncode in (-signal.SIGPROF, -signal.SIGXCPU) else _BROKEN
