"""Cookies: the session's token, and small sealed texts that one page leaves for the next.

They are HttpOnly and SameSite=Lax. Under https their names begin with `__Host-`, so that no other host can set them
(RFC 6265bis, section 4.1.3); under http with `leadline_`, since cookies know no ports.
"""

import base64
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import Response

from leadline.storage.sealed import Sealer

SESSION = "session"
SESSION_SECONDS = 90 * 24 * 3600
_KEPT_SECONDS = 600


@dataclass(slots=True)
class Cookies:
    """What is set here goes out with the answer that `write` is given."""

    request: Request
    sealer: Sealer
    secure: bool
    _set: dict[str, tuple[str, int]] = field(default_factory=dict)

    def get(self, name: str) -> str | None:
        return self.request.cookies.get(self._full(name))

    def set(self, name: str, value: str, seconds: int) -> None:
        self._set[name] = value, seconds

    def forget(self, name: str) -> None:
        if self.get(name) is not None:
            self._set[name] = "", 0

    def keep(self, name: str, content: bytes, seconds: int = _KEPT_SECONDS) -> None:
        """A text for a later page, which only this server can read."""
        self.set(name, base64.urlsafe_b64encode(self.sealer.seal(content, f"cookie {name}")).decode(), seconds)

    def open(self, name: str) -> bytes | None:
        """What was kept; None where there is nothing, or nothing of ours."""
        try:
            sealed = base64.urlsafe_b64decode(self.get(name) or "")
        except ValueError:
            return None
        return self.sealer.open(sealed, f"cookie {name}")

    def write(self, response: Response) -> None:
        for name, (value, seconds) in self._set.items():
            response.set_cookie(
                self._full(name), value, max_age=seconds, path="/", secure=self.secure, httponly=True, samesite="lax"
            )

    def _full(self, name: str) -> str:
        return f"__Host-{name}" if self.secure else f"leadline_{name}"
