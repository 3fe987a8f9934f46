"""Requests over which an engine's process was lost: one that crashes the engine is not run for ever."""

import hashlib
from dataclasses import dataclass, field

from leadline.chat.request import ChatRequest
from leadline.engines.upstream.http import ConnectionBroken
from leadline.errors import InvalidRequest

# A request over which so many processes were lost is refused; so many requests are remembered.
_MOST_LOST = 2
_MOST_SUSPECTS = 256


@dataclass(slots=True)
class Suspects:
    """The newest few, since most of them are innocent."""

    _lost_over: dict[bytes, int] = field(default_factory=dict)

    def refuse(self, request: ChatRequest) -> None:
        """InvalidRequest where too many processes were lost over it."""
        if self._lost_over and self._lost_over.get(_digest(request), 0) >= _MOST_LOST:
            raise InvalidRequest("This request crashed the engine twice, so it is not run again. Change it.")

    def note(self, request: ChatRequest, error: Exception) -> None:
        """Remember a request that ended in `error`, if that was the loss of its process."""
        if isinstance(error, ConnectionBroken):
            suspect = _digest(request)
            self._lost_over[suspect] = self._lost_over.pop(suspect, 0) + 1
            while len(self._lost_over) > _MOST_SUSPECTS:
                del self._lost_over[next(iter(self._lost_over))]


def _digest(request: ChatRequest) -> bytes:
    return hashlib.blake2b(repr(request).encode("utf-8", "replace"), digest_size=16).digest()
