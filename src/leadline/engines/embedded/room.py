"""Room in the engine's token cache. All requests that run share it, and llama.cpp fails them all when it is full, so a
request waits here until the most that it can need is free."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from leadline.errors import Unavailable

WAIT_SECONDS = 120.0
MOST_WAITING = 256


@dataclass(slots=True)
class Place:
    """What one request holds. `need` tells that it needs less than it took."""

    _room: "Room"
    tokens: int

    def need(self, tokens: int) -> None:
        spare = max(0, self.tokens - tokens)
        self.tokens -= spare
        self._room.free_tokens += spare
        self._room.let_in()


@dataclass(slots=True)
class Room:
    """First come, first served: a large request is not overtaken for ever by small ones."""

    free_tokens: int
    free_places: int
    _waiting: deque[tuple[int, "asyncio.Future[None]"]] = field(default_factory=deque)
    _all_tokens: int = field(init=False)
    _all_places: int = field(init=False)

    def __post_init__(self) -> None:
        self._all_tokens, self._all_places = self.free_tokens, self.free_places

    def fits(self, tokens: int) -> bool:
        return not self._waiting and self._has(tokens)

    @property
    def waiting(self) -> int:
        """The requests that wait for room."""
        return len(self._waiting)

    def leaves_half(self, tokens: int, requests: int) -> bool:
        """Whether half of all tokens and places stay free with so many more requests of `tokens` each."""
        free_tokens, free_places = self.free_tokens - tokens * requests, self.free_places - requests
        return not self._waiting and 2 * free_tokens >= self._all_tokens and 2 * free_places >= self._all_places

    @asynccontextmanager
    async def take(self, tokens: int) -> AsyncIterator[Place]:
        """Hold `tokens` and one place. Unavailable where the queue is full or the wait too long."""
        if self.fits(tokens):
            self._claim(tokens)
        else:
            await self._wait(tokens)
        place = Place(self, tokens)
        try:
            yield place
        finally:
            self.free_tokens += place.tokens
            self.free_places += 1
            self.let_in()

    async def _wait(self, tokens: int) -> None:
        if len(self._waiting) >= MOST_WAITING:
            raise Unavailable("The engine has more requests waiting than it can serve. Try again in a moment.")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, turn))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.free_tokens += tokens
                self.free_places += 1
            self._waiting = deque(waiting for waiting in self._waiting if waiting[1] is not turn)
            self.let_in()
            if isinstance(error, TimeoutError):
                raise Unavailable("The engine was busy for too long. Try again in a moment.") from None
            raise

    def let_in(self) -> None:
        """Wake those who fit now."""
        while self._waiting and self._has(self._waiting[0][0]):
            tokens, turn = self._waiting.popleft()
            if not turn.done():
                self._claim(tokens)
                turn.set_result(None)

    def _has(self, tokens: int) -> bool:
        return self.free_places > 0 and self.free_tokens >= tokens

    def _claim(self, tokens: int) -> None:
        self.free_tokens -= tokens
        self.free_places -= 1
