"""Cookies: the session's token, and small sealed texts that one page leaves for the next.

They are HttpOnly and SameSite=Lax. Under https their names begin with `__Host-`, so that no other host can set them
(RFC 6265bis, section 4.1.3); under http with `leadline_`, since cookies know no ports. Names are taken as they were
sent: what is made equal to such a name by leaving out space is another host's.
"""

import base64
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

from leadline.clock import MICROSECONDS_PER_SECOND, Clock
from leadline.storage.sealed import Sealer

SESSION = "session"
SESSION_SECONDS = 90 * 24 * 3600
_KEPT_SECONDS = 600
_TIME_BYTES = 8


@dataclass(slots=True)
class Cookies:
    """What is set here goes out with the answer that `write` is given."""

    request: Request
    sealer: Sealer
    secure: bool
    clock: Clock
    _set: dict[str, tuple[str, int]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        """None also where there are several that differ: at most one of them is ours."""
        full = self._full(name)
        values = {value for sent, value in self._sent() if sent == full}
        return values.pop() if len(values) == 1 else None

    def set(self, name: str, value: str, seconds: int) -> None:
        self._set[name] = value, seconds

    def forget(self, name: str) -> None:
        if self.get(name) is not None:
            self._set[name] = "", 0

    def keep(self, name: str, content: bytes, seconds: int = _KEPT_SECONDS) -> None:
        """A text for a later page of the same session, which only this server can read, and not after its time."""
        until = self.clock() + seconds * MICROSECONDS_PER_SECOND
        session = self._set[SESSION][0] if SESSION in self._set else self.get(SESSION)
        sealed = self.sealer.seal(until.to_bytes(_TIME_BYTES, "big") + content, _place(name, session))
        self.set(name, base64.urlsafe_b64encode(sealed).decode(), seconds)

    def open(self, name: str) -> bytes | None:
        """What was kept; None where there is nothing, nothing of ours, or of another time or session."""
        try:
            sealed = base64.urlsafe_b64decode(self.get(name) or "")
        except ValueError:
            return None
        opened = self.sealer.open(sealed, _place(name, self.get(SESSION)))
        if opened is None or self.clock() >= int.from_bytes(opened[:_TIME_BYTES], "big"):
            return None
        return opened[_TIME_BYTES:]

    def write(self, response: Response) -> None:
        for name, (value, seconds) in self._set.items():
            response.set_cookie(
                self._full(name), value, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
            )

    def _sent(self) -> Iterator[tuple[str, str]]:
        """Names and values, as browsers write them."""
        for header in self.request.headers.getlist("cookie"):
            for cookie in header.split(";"):
                name, _, value = cookie.partition("=")
                yield name.strip(" \t"), value.strip(" \t").strip('"')

    def _full(self, name: str) -> str:
        return f"__Host-{name}" if self.secure else f"leadline_{name}"


def _place(name: str, session: str | None) -> str:
    return f"cookie {name} {sha256((session or '').encode()).hexdigest()}"
