"""Who is signed in. Stored as digests, looked up in memory: to be signed in costs a page nothing."""

import asyncio
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_SECOND, Clock, now_microseconds
from leadline.errors import Unauthenticated
from leadline.ids import new_id
from leadline.storage.database import Conflict, Database, Write

IDLE = 14 * MICROSECONDS_PER_DAY
LONGEST = 90 * MICROSECONDS_PER_DAY
SEEN_EVERY = 60 * MICROSECONDS_PER_SECOND
# Of one user; a further one ends the one that was not seen for longest.
MOST_SESSIONS = 50
_LONGEST_TOKEN = 100
_LONGEST_AGENT = 300


class SessionRefused(Unauthenticated):
    """Nobody can sign in here as this user."""


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that is signed in, and the organisation at which it looks; nothing: it has not chosen. Times are in
    microseconds."""

    id: str
    user_id: str
    organisation_id: str
    created_at: int
    last_seen_at: int
    address: str
    agent: str

    def ends_at(self) -> int:
        return min(self.last_seen_at + IDLE, self.created_at + LONGEST)


class Sessions:
    """All sessions. Whoever changes a user through `end` ends them with the same commit."""

    def __init__(self, database: Database, clock: Clock = now_microseconds) -> None:
        self._database = database
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._of_user: dict[str, set[str]] = {}
        self._unwritten: set[str] = set()

    async def load(self) -> None:
        self._sessions, self._of_user = {}, {}
        for digest, *row in await self._database.rows(
            "SELECT digest, id, user_id, organisation_id, created_at, last_seen_at, address, agent FROM sessions"
        ):
            self._remember(digest, Session(*row))

    async def open(self, user_id: str, address: str, agent: str) -> str:
        """The token of a new session. SessionRefused where the user is suspended."""
        token, now = secrets.token_urlsafe(32), self._clock()
        session = Session(new_id("ses"), user_id, "", now, now, address[:100], agent[:_LONGEST_AGENT])
        digest = _digest(token)
        write = Write(
            "INSERT INTO sessions (id, digest, user_id, organisation_id, created_at, last_seen_at, address, agent)"
            " SELECT $1, $2, u.id, '', $4, $4, $5, $6 FROM users u WHERE u.id = $3 AND u.suspended_at IS NULL",
            (session.id, digest, user_id, now, session.address, session.agent),
        )
        too_many = self._digests_of(user_id)[MOST_SESSIONS - 1 :]
        try:
            await self._database.commit(write, *(_ending(one) for one in too_many))
        except Conflict:
            raise SessionRefused from None
        self._forget(too_many)
        self._remember(digest, session)
        return token

    def find(self, token: str) -> Session | None:
        """The session of this token, which was seen now; None where it has ended."""
        digest, now = _digest(token), self._clock()
        session = self._sessions.get(digest)
        if session is None or now >= session.ends_at():
            return None
        if now - session.last_seen_at >= SEEN_EVERY:
            session = self._sessions[digest] = replace(session, last_seen_at=now)
            self._unwritten.add(digest)
        return session

    async def close(self, token: str, *also: Write) -> None:
        """Sign out, with `also` in the same commit. A second time changes nothing."""
        await self._end([one for one in [_digest(token)] if one in self._sessions], *also)

    async def close_one(self, user_id: str, session_id: str, *also: Write) -> None:
        """End one of the user's sessions by its id, as `close`; nothing where he has none of that id."""
        await self._end([one for one in self._digests_of(user_id) if self._sessions[one].id == session_id], *also)

    async def close_all(self, user_id: str, but: str | None = None) -> None:
        """End all of the user's, but that of the token `but`."""
        await self.end(user_id, but=but)

    async def end(self, user_id: str, *writes: Write, but: str | None = None) -> None:
        """In one commit: `writes`, and the end of the user's sessions but that of the token `but`."""
        kept = "" if but is None else _digest(but)
        write = Write("DELETE FROM sessions WHERE user_id = $1 AND digest <> $2", (user_id, kept), rows=None)

        async def both() -> None:
            await self._database.commit(*writes, write)
            self._forget([one for one in self._digests_of(user_id) if one != kept])

        await asyncio.shield(asyncio.ensure_future(both()))

    def of_user(self, user_id: str) -> list[Session]:
        """The user's sessions, the one that was seen last first."""
        now = self._clock()
        sessions = [self._sessions[digest] for digest in self._digests_of(user_id)]
        return [session for session in sessions if now < session.ends_at()]

    async def choose(self, session: Session, organisation_id: str) -> None:
        """Look at another organisation from now on. Whether the user may is the caller's to know."""
        await self._database.commit(
            Write("UPDATE sessions SET organisation_id = $1 WHERE id = $2", (organisation_id, session.id), rows=None)
        )
        for digest in self._digests_of(session.user_id):
            if self._sessions[digest].id == session.id:
                self._sessions[digest] = replace(self._sessions[digest], organisation_id=organisation_id)

    async def write_seen(self) -> None:
        """Write when sessions were last seen, of those that were since the last time."""
        seen, self._unwritten = self._unwritten, set()
        known = [(self._sessions[digest].last_seen_at, digest) for digest in seen if digest in self._sessions]
        if known:
            sql = "UPDATE sessions SET last_seen_at = $1 WHERE digest = $2"
            await self._database.commit(*(Write(sql, values, rows=None) for values in known))

    async def prune(self) -> None:
        """Forget those that have ended."""
        now = self._clock()
        await self._end([digest for digest, session in self._sessions.items() if now >= session.ends_at()])

    async def _end(self, digests: list[str], *also: Write) -> None:
        async def both() -> None:
            await self._database.commit(*map(_ending, digests), *also)
            self._forget(digests)

        if digests:
            await asyncio.shield(asyncio.ensure_future(both()))

    def _digests_of(self, user_id: str) -> list[str]:
        """Of the user's sessions, that which was seen last first."""
        digests = self._of_user.get(user_id, ())
        return sorted(digests, key=lambda digest: (self._sessions[digest].last_seen_at, digest), reverse=True)

    def _remember(self, digest: str, session: Session) -> None:
        self._sessions[digest] = session
        self._of_user.setdefault(session.user_id, set()).add(digest)

    def _forget(self, digests: list[str]) -> None:
        for digest in digests:
            session = self._sessions.pop(digest, None)
            if session is not None:
                self._of_user[session.user_id].discard(digest)


def _ending(digest: str) -> Write:
    return Write("DELETE FROM sessions WHERE digest = $1", (digest,), rows=None)


def _digest(token: str) -> str:
    return sha256(token[:_LONGEST_TOKEN].encode("utf-8", "surrogatepass")).hexdigest()
