"""Who is there: organisations and their users. An e-mail belongs to one user and never changes by itself."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from argon2 import PasswordHasher

from leadline.accounts.audit_log import audited
from leadline.clock import Clock, now_microseconds
from leadline.errors import InvalidRequest, NotFound, PermissionDenied
from leadline.ids import new_id
from leadline.storage.database import Conflict, Database, Write

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024
LONGEST_NAME = 200
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,255}")


@dataclass(frozen=True, slots=True)
class User:
    """`suspended_at` is when the organisation was suspended, in microseconds; None: it is not."""

    id: str
    organisation_id: str
    email: str
    organisation: str
    suspended_at: int | None = None


class Organisations:
    """`clock` is the wall clock in microseconds."""

    def __init__(self, database: Database, clock: Clock = now_microseconds) -> None:
        self._database = database
        self._clock = clock
        self._suspended: frozenset[str] | None = None

    async def load(self) -> None:
        """Read who is suspended. Without it no request can be judged."""
        rows = await self._database.rows("SELECT id FROM organisations WHERE suspended_at IS NOT NULL")
        self._suspended = frozenset(organisation_id for (organisation_id,) in rows)

    def is_suspended(self, organisation_id: str) -> bool:
        assert self._suspended is not None, "load comes first"
        return organisation_id in self._suspended

    def refuse_if_suspended(self, organisation_id: str) -> None:
        """PermissionDenied for every key of a suspended organisation."""
        if self.is_suspended(organisation_id):
            raise PermissionDenied("This organisation is suspended. Ask the administrator of this server.")

    async def users(self) -> list[User]:
        """Every user, the first one first."""
        rows = await self._database.rows(
            "SELECT u.id, u.organisation_id, u.email, o.name, o.suspended_at FROM users u JOIN organisations o"
            " ON o.id = u.organisation_id ORDER BY u.created_at, u.id"
        )
        return [User(*row) for row in rows]

    async def first_user(self, organisation_id: str) -> User:
        """Who came first to the organisation."""
        [first, *_] = [user for user in await self.users() if user.organisation_id == organisation_id]
        return first

    async def user(self, email: str | None) -> User:
        """The user with this e-mail; None: the only organisation's first user."""
        users = await self.users()
        if email is not None:
            found = [user for user in users if user.email == _normal(email)]
            if not found:
                raise NotFound(f"Nobody here has the e-mail {email}. `leadline accounts list` shows who does.")
            return found[0]
        if not users:
            raise NotFound("There is no organisation yet. Create it with `leadline init`.")
        if len({user.organisation_id for user in users}) > 1:
            raise InvalidRequest("There are several organisations. Say whose with --email.", "email")
        return users[0]

    async def create(self, email: str, organisation: str, password: str, opening: Callable[[str], Write]) -> User:
        """A new organisation with its first user. `opening` gives the write that opens its account in the ledger."""
        user = User(new_id("usr"), new_id("org"), _normal(email), organisation.strip())
        _refuse(user, password)
        if any(known.email == user.email for known in await self.users()):
            raise InvalidRequest(f"{user.email} is already signed up.", "email")
        password_hash = await asyncio.to_thread(PasswordHasher().hash, password)
        now = self._clock()
        await self._database.commit(
            Write(
                "INSERT INTO organisations (id, name, created_at) VALUES ($1, $2, $3)",
                (user.organisation_id, user.organisation, now),
            ),
            Write(
                "INSERT INTO users (id, organisation_id, email, password_hash, created_at) VALUES ($1, $2, $3, $4, $5)",
                (user.id, user.organisation_id, user.email, password_hash, now),
            ),
            opening(user.organisation_id),
        )
        return user

    async def suspend(self, organisation_id: str, actor: str) -> None:
        """Refuse all its keys from the next request on. A second time changes nothing."""
        now = self._clock()
        await self._change_suspension(
            Write(
                "UPDATE organisations SET suspended_at = $1 WHERE id = $2 AND suspended_at IS NULL",
                (now, organisation_id),
            ),
            audited(now, actor, "accounts suspend", organisation_id, ({"suspended": False}, {"suspended": True})),
        )

    async def resume(self, organisation_id: str, actor: str) -> None:
        """Let its keys work again. A second time changes nothing."""
        await self._change_suspension(
            Write(
                "UPDATE organisations SET suspended_at = NULL WHERE id = $1 AND suspended_at IS NOT NULL",
                (organisation_id,),
            ),
            audited(
                self._clock(), actor, "accounts resume", organisation_id, ({"suspended": True}, {"suspended": False})
            ),
        )

    async def change_email(self, user: User, email: str, actor: str) -> User:
        """The user under another e-mail. InvalidRequest where it is none, or somebody's."""
        changed = replace(user, email=_normal(email))
        _refuse_email(changed.email)
        changes = {"email": user.email}, {"email": changed.email}
        try:
            await self._database.commit(
                Write(
                    "UPDATE users SET email = $1 WHERE id = $2"
                    " AND NOT EXISTS (SELECT 1 FROM users others WHERE others.email = $1)",
                    (changed.email, user.id),
                ),
                audited(self._clock(), actor, "accounts change-email", user.id, changes),
            )
        except Conflict:
            raise InvalidRequest(f"{changed.email} is already signed up.", "email") from None
        return changed

    async def _change_suspension(self, change: Write, row: Write) -> None:
        """Commit and remember, as one: where the caller is cancelled meanwhile, both still happen."""

        async def both() -> None:
            # A conflict: it is so already.
            with suppress(Conflict):
                await self._database.commit(change, row)
            await self.load()

        await asyncio.shield(asyncio.ensure_future(both()))


def _normal(email: str) -> str:
    return email.strip().lower()


def _refuse_email(email: str) -> None:
    if not _EMAIL.fullmatch(email):
        raise InvalidRequest(f"{email!r} is not an e-mail address.", "email")


def _refuse(user: User, password: str) -> None:
    _refuse_email(user.email)
    if not 1 <= len(user.organisation) <= LONGEST_NAME or not user.organisation.isprintable():
        raise InvalidRequest(f"The organisation's name must have 1 to {LONGEST_NAME} printable characters.", "org")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InvalidRequest(
            f"The password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.", "password"
        )
