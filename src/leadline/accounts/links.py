"""Links that work once: for setting up the instance, a new password, proving an e-mail, joining an organisation.

Only a digest of the token is stored. To look at a link does not use it up: mail scanners do that.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal
from urllib.parse import urlencode

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, Clock, now_microseconds
from leadline.errors import Refused
from leadline.ids import new_id
from leadline.storage.database import Conflict, Database, Write

Kind = Literal["setup", "verify", "reset", "invite"]

LIVES: Mapping[Kind, int] = {
    "setup": MICROSECONDS_PER_HOUR // 2,
    "verify": MICROSECONDS_PER_DAY,
    "reset": MICROSECONDS_PER_HOUR,
    "invite": 7 * MICROSECONDS_PER_DAY,
}
# How long a link is known after it ended, so that lists can say so.
_KEPT = 7 * MICROSECONDS_PER_DAY
_LONGEST_TOKEN = 100


class LinkGone(Refused):
    """This link was used, is too old, or never was. Ask for a new one."""


@dataclass(frozen=True, slots=True)
class Link:
    """`subject` is whom it is for, `facts` what was said when it was made. Times are in microseconds."""

    id: str
    kind: str
    subject: str
    organisation_id: str
    facts: Mapping[str, Any]
    created_at: int
    expires_at: int


class Links:
    """All links that were made and not yet forgotten."""

    def __init__(self, database: Database, clock: Clock = now_microseconds) -> None:
        self._database = database
        self._clock = clock

    async def make(
        self,
        kind: Kind,
        subject: str = "",
        facts: Mapping[str, Any] | None = None,
        organisation_id: str = "",
        lives_microseconds: int | None = None,
    ) -> str:
        """The token of a new link."""
        token, writes = self.making(kind, subject, facts, organisation_id, lives_microseconds)
        await self._database.commit(*writes)
        return token

    def making(
        self,
        kind: Kind,
        subject: str = "",
        facts: Mapping[str, Any] | None = None,
        organisation_id: str = "",
        lives_microseconds: int | None = None,
    ) -> tuple[str, tuple[Write, ...]]:
        """The token of a link, and the writes that make it. A new invitation or set-up link is in the place of an older
        one; links that anybody can ask for do not end those of others."""
        token, now = secrets.token_urlsafe(32), self._clock()
        lives = LIVES[kind] if lives_microseconds is None else lives_microseconds
        older = Write(
            "DELETE FROM links WHERE kind = $1 AND subject = $2 AND organisation_id = $3 AND taken_at IS NULL",
            (kind, subject, organisation_id),
            rows=None,
        )
        made = Write(
            "INSERT INTO links (id, digest, kind, subject, organisation_id, facts, created_at, expires_at)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            (
                *(new_id("lnk"), _digest(token), kind, subject, organisation_id),
                *(json.dumps(facts or {}, ensure_ascii=False), now, now + lives),
            ),
        )
        return token, ((older, made) if kind in ("setup", "invite") else (made,))

    async def peek(self, kind: Kind, token: str) -> Link:
        """The link, which works on. LinkGone where it does not work."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE digest = $1 AND kind = $2 AND taken_at IS NULL AND expires_at > $3",
            *(_digest(token), kind, self._clock()),
        )
        if not rows:
            raise LinkGone
        return _link_of(rows[0])

    async def take(self, kind: Kind, token: str) -> Link:
        """The link, which does not work any more. LinkGone where it did not: of any number at once, one takes it."""
        link = await self.peek(kind, token)
        try:
            await self._database.commit(self.taking(kind, token))
        except Conflict:
            raise LinkGone from None
        return link

    def taking(self, kind: Kind, token: str) -> Write:
        """As `take`, in one commit with what the link is for: a Conflict where it does not work."""
        now = self._clock()
        return Write(
            "UPDATE links SET taken_at = $1 WHERE digest = $2 AND kind = $3 AND taken_at IS NULL AND expires_at > $1",
            (now, _digest(token), kind),
        )

    @staticmethod
    def ending(kind: Kind, subject: str) -> Write:
        """No link of this kind for this subject works any more."""
        return Write("DELETE FROM links WHERE kind = $1 AND subject = $2", (kind, subject), rows=None)

    async def open(self, kind: Kind, organisation_id: str) -> list[Link]:
        """An organisation's links that work, the newest first."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE organisation_id = $1 AND kind = $2 AND taken_at IS NULL AND expires_at > $3"
            " ORDER BY id DESC",
            *(organisation_id, kind, self._clock()),
        )
        return [_link_of(row) for row in rows]

    async def waiting(self, kind: Kind, organisation_id: str) -> list[Link]:
        """As `open`, and those that nobody used in time as long as they are known."""
        rows = await self._database.rows(
            f"{_SELECT} WHERE organisation_id = $1 AND kind = $2 AND taken_at IS NULL ORDER BY id DESC",
            *(organisation_id, kind),
        )
        return [_link_of(row) for row in rows]

    @staticmethod
    def withdrawing(link_id: str, organisation_id: str) -> Write:
        """The organisation's link does not work any more. A Conflict where it has no such link that was not used."""
        return Write(
            "DELETE FROM links WHERE id = $1 AND organisation_id = $2 AND taken_at IS NULL", (link_id, organisation_id)
        )

    async def prune(self) -> None:
        """Forget those that ended a week ago."""
        await self._database.commit(
            Write("DELETE FROM links WHERE expires_at < $1", (self._clock() - _KEPT,), rows=None)
        )


def link_url(base_url: str, kind: Kind, token: str) -> str:
    """Where a link is, at the address by which people reach this server."""
    return f"{base_url}/{kind}?{urlencode({'token': token})}"


_SELECT = "SELECT id, kind, subject, organisation_id, facts, created_at, expires_at FROM links"


def _link_of(row: tuple[Any, ...]) -> Link:
    link_id, kind, subject, organisation_id, facts, created_at, expires_at = row
    return Link(link_id, kind, subject, organisation_id, json.loads(facts), created_at, expires_at)


def _digest(token: str) -> str:
    return sha256(token[:_LONGEST_TOKEN].encode("utf-8", "surrogatepass")).hexdigest()
