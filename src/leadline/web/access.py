"""The access log: a line for each request, with nothing in it that was sent beside its path.

Lines gather and go to the log a few times a second, as one record: a record for each costs more than a request's
authentication, limits and reservation together.
"""

import asyncio
import logging
import time

import msgspec

from leadline.timers import later

# The log writes what a record of this name says as it is: lines like those that it makes of others.
NAME = "leadline.access"
_MOST_LINES = 1000
_log = logging.getLogger(NAME)
_encode = msgspec.json.Encoder().encode


class _Gathered:
    """The lines that wait, and the loop that will hand them over."""

    lines: list[bytes] = []  # noqa: RUF012 there is one for the process, as there is one log
    loop: asyncio.AbstractEventLoop | None = None


def log_request(what: str, method: str, path: str, status: int | str, began: float, **more: str) -> None:
    """`what` is a `request` of an API or a `page`; `began` is the monotonic clock's, in seconds; `more` is what else
    the line says, such as `request_id`."""
    if not _log.isEnabledFor(logging.INFO):
        return
    line: dict[str, object] = {"at": time.time(), "level": "info", "logger": NAME, "message": what, **more}
    line |= {"method": method[:20], "path": path[:200], "status": status, "seconds": round(time.monotonic() - began, 4)}
    _Gathered.lines.append(_encode(line))
    loop = asyncio.get_running_loop()
    if len(_Gathered.lines) >= _MOST_LINES:
        flush()
    elif _Gathered.loop is not loop:
        _Gathered.loop = loop
        later(0, flush)


def flush() -> None:
    """Hand over what has gathered."""
    _Gathered.loop = None
    if _Gathered.lines:
        lines, _Gathered.lines = _Gathered.lines, []
        _log.info(b"\n".join(lines).decode())
