"""Identifiers. Ids are UUIDs of version 7 (RFC 9562, section 5.7): they sort by time, so an index only appends."""

import secrets
import time
import uuid

_RANDOM_BYTES = 10
_DRAWN_AT_ONCE = 256
_drawn: list[int] = []
_newest = 0


def new_uuid() -> uuid.UUID:
    """A new UUIDv7 from the wall clock in milliseconds and 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = _random_bits()
    value = (
        (milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    )
    return uuid.UUID(int=value)


def _random_bits() -> int:
    """74 random bits; they are drawn from the system many at a time."""
    try:
        return _drawn.pop()
    except IndexError:
        content = secrets.token_bytes(_RANDOM_BYTES * _DRAWN_AT_ONCE)
        _drawn.extend(
            int.from_bytes(content[at : at + _RANDOM_BYTES]) >> 6 for at in range(0, len(content), _RANDOM_BYTES)
        )
        return _drawn.pop()


def new_id(prefix: str) -> str:
    """A prefixed id for a stored thing, such as `org_0192…`."""
    return f"{prefix}_{new_uuid().hex}"


def new_ordered_id(prefix: str) -> str:
    """As `new_id`, above all that this process made before: for logs, whose order is that of their ids. The 12 bits
    behind the milliseconds tell their fraction (RFC 9562, section 6.2, method 3)."""
    global _newest  # noqa: PLW0603 one for the process, as the clock
    milliseconds, nanoseconds = divmod(time.time_ns(), 1_000_000)
    _newest = max(milliseconds << 12 | nanoseconds * 4096 // 1_000_000, _newest + 1)
    value = (_newest >> 12) << 80 | 0x7 << 76 | (_newest & 0xFFF) << 64 | 0b10 << 62 | _random_bits() & (1 << 62) - 1
    return f"{prefix}_{uuid.UUID(int=value).hex}"


def first_uuid_at(microseconds: int) -> uuid.UUID:
    """Not above any UUIDv7 that was made at that time (since 1970) or later, and above all earlier ones."""
    return uuid.UUID(int=microseconds // 1000 << 80)
