"""Who is there: people with an e-mail and a password. An e-mail belongs to one user and never changes by itself."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.accounts.email_addresses import is_email
from leadline.accounts.links import Links
from leadline.accounts.passwords import SHORTEST, Passwords, refuse_password
from leadline.accounts.sessions import Sessions
from leadline.clock import Clock, now_microseconds
from leadline.errors import InvalidRequest, NotFound
from leadline.ids import new_id
from leadline.storage.database import Conflict, Database, Write

LONGEST_NAME = 200
# The action of a sign-in in the audit log.
SIGN_IN = "users sign-in"
_COLUMNS = (
    "u.id, u.email, u.name, u.created_at, u.verified_at, u.suspended_at, u.is_admin, u.totp_confirmed_at,"
    " u.last_signed_in_at"
)


@dataclass(frozen=True, slots=True)
class User:
    """Times are in microseconds; None: not (yet). `is_admin` is of the instance, `two_factor` says that a code is asked
    for besides the password."""

    id: str
    email: str
    name: str
    created_at: int
    verified_at: int | None = None
    suspended_at: int | None = None
    is_admin: bool = False
    two_factor: bool = False
    last_signed_in_at: int | None = None


Shown = Literal["all", "admins", "suspended"]
MOST_SHOWN = 500
_LONGEST_TEXT = 200


class Users:
    """All users. What ends sessions ends them in memory too."""

    def __init__(
        self, database: Database, passwords: Passwords, sessions: Sessions, clock: Clock = now_microseconds
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._sessions = sessions
        self._clock = clock

    async def find(self, email: str) -> User | None:
        """The user with this e-mail, however it is written."""
        return await self._one("u.email = $1", normal_email(email))

    async def get(self, user_id: str) -> User | None:
        return await self._one("u.id = $1", user_id)

    async def named(self, email: str) -> User:
        """As `find`, or NotFound."""
        user = await self.find(email)
        if user is None:
            raise NotFound(f"Nobody here has the e-mail {email}. `leadline users list` shows who does.")
        return user

    async def all(self) -> list[User]:
        """Every user, the first one first."""
        rows = await self._database.rows(f"SELECT {_COLUMNS} FROM users u ORDER BY u.created_at, u.id")
        return [user_of(row) for row in rows]

    async def page(
        self,
        text: str = "",
        show: Shown = "all",
        before: str | None = None,
        limit: int = 50,
        *,
        oldest_first: bool = False,
    ) -> list[User]:
        """Those whose e-mail or name has `text`, the newest first. `before` is the id of a page's last user. With
        `oldest_first` they are those after it."""
        compared, order = (">", "ASC") if oldest_first else ("<", "DESC")
        rows = await self._database.rows(
            f"SELECT {_COLUMNS} FROM users u WHERE u.id {compared} $1 AND {_SHOWN[show]}"
            f" AND (u.email LIKE $2 ESCAPE '\\' OR LOWER(u.name) LIKE $2 ESCAPE '\\') ORDER BY u.id {order} LIMIT $3",
            *(before or ("" if oldest_first else "usr_~"), pattern_of(text), max(1, min(limit, MOST_SHOWN))),
        )
        return [user_of(row) for row in rows]

    async def any(self) -> bool:
        """Whether there is a user at all."""
        return bool(await self._database.rows("SELECT 1 FROM users LIMIT 1"))

    async def check_password(self, email: str, password: str) -> User | None:
        """Who has this e-mail and password; None: nobody, or somebody who is suspended. The work is the same."""
        rows = await self._database.rows(
            f"SELECT {_COLUMNS}, u.password_hash FROM users u WHERE u.email = $1", normal_email(email)
        )
        password_hash = rows[0][-1] if rows else None
        if not await self._passwords.matches(password, password_hash):
            return None
        user = user_of(rows[0][:-1])
        return user if user.suspended_at is None else None

    async def password_mark(self, user_id: str) -> str:
        """Another one for each password that the user had; empty where there is no such user."""
        rows = await self._database.rows("SELECT password_hash FROM users WHERE id = $1", user_id)
        return sha256(rows[0][0].encode()).hexdigest()[:20] if rows else ""

    async def signed_in(self, user: User, device: str, actor: Actor, also: Sequence[Write] = ()) -> None:
        """Remember when, where from (the actor's address) and on which device, with `also` in the same commit."""
        now = self._clock()
        await self._database.commit(
            Write("UPDATE users SET last_signed_in_at = $1 WHERE id = $2", (now, user.id)),
            audited(now, actor, SIGN_IN, user.id, ({}, {"device": device})),
            *also,
        )

    async def change_password(
        self, user: User, password: str, actor: Actor, *, keep: str | None = None, also: Sequence[Write] = ()
    ) -> None:
        """Ends the user's links for a new password, and all his sessions but that of the token `keep`. `also` is kept
        with it or not at all: Conflict."""
        refuse_password(password, user.email)
        password_hash = await self._passwords.hash(password)
        await self._sessions.end(
            user.id,
            *also,
            Write("UPDATE users SET password_hash = $1 WHERE id = $2", (password_hash, user.id)),
            Links.ending("reset", user.id),
            audited(self._clock(), actor, "users change-password", user.id, ({}, {})),
            but=keep,
        )

    async def verify(self, user_id: str, email: str, also: Sequence[Write] = ()) -> None:
        """The user has this e-mail: what was mailed there came back. Nothing where he has another one meanwhile."""
        write = Write(
            "UPDATE users SET verified_at = COALESCE(verified_at, $1) WHERE id = $2 AND email = $3",
            (self._clock(), user_id, normal_email(email)),
            rows=None,
        )
        await self._database.commit(*also, write)

    async def change_name(self, user: User, name: str, actor: Actor) -> None:
        name = person_name(name)
        await self._database.commit(
            Write("UPDATE users SET name = $1 WHERE id = $2", (name, user.id)),
            audited(self._clock(), actor, "users change-name", user.id, ({"name": user.name}, {"name": name})),
        )

    async def suspend(self, user: User, actor: Actor) -> None:
        """He cannot sign in, and his sessions end. His organisations and their keys go on. A second time changes
        nothing; the last instance admin who is not suspended stays: InvalidRequest."""
        if user.suspended_at is not None:
            return
        now = self._clock()
        write = Write(
            f"UPDATE users SET suspended_at = $1 WHERE id = $2 AND suspended_at IS NULL AND {_ANOTHER_ADMIN}",
            (now, user.id),
        )
        row = audited(now, actor, "users suspend", user.id, ({"suspended": False}, {"suspended": True}))
        try:
            await self._sessions.end(user.id, write, row)
        except Conflict:
            await self._refuse_last_admin(user.id)

    async def resume(self, user: User, actor: Actor) -> None:
        """A second time changes nothing."""
        write = Write("UPDATE users SET suspended_at = NULL WHERE id = $1 AND suspended_at IS NOT NULL", (user.id,))
        changes = {"suspended": True}, {"suspended": False}
        with suppress(Conflict):
            await self._database.commit(write, audited(self._clock(), actor, "users resume", user.id, changes))

    async def change_email(self, user: User, email: str, actor: Actor) -> User:
        """The user under another e-mail. InvalidRequest where it is none, or somebody's. Only admins do this, and vouch
        for it: whether it is verified stays."""
        email = normal_email(email)
        refuse_email(email)
        changes = {"email": user.email}, {"email": email}
        try:
            await self._database.commit(
                Write(
                    "UPDATE users SET email = $1 WHERE id = $2"
                    " AND NOT EXISTS (SELECT 1 FROM users others WHERE others.email = $1)",
                    (email, user.id),
                ),
                Links.ending("reset", user.id),
                Links.ending("verify", user.id),
                audited(self._clock(), actor, "accounts change-email", user.id, changes),
            )
        except Conflict:
            raise InvalidRequest(f"{email} is already signed up.", "email") from None
        changed = await self.get(user.id)
        assert changed is not None
        return changed

    async def set_admin(self, user: User, actor: Actor, *, is_admin: bool) -> None:
        """Make or unmake an admin of the instance. A second time changes nothing; the last one stays:
        InvalidRequest."""
        if user.is_admin == is_admin:
            return
        condition = "" if is_admin else f" AND {_ANOTHER_ADMIN}"
        write = Write(
            f"UPDATE users SET is_admin = $1 WHERE id = $2 AND is_admin <> $1{condition}", (int(is_admin), user.id)
        )
        changes = {"is_admin": user.is_admin}, {"is_admin": is_admin}
        try:
            await self._database.commit(write, audited(self._clock(), actor, "users admin", user.id, changes))
        except Conflict:
            await self._refuse_last_admin(user.id)

    async def _refuse_last_admin(self, user_id: str) -> None:
        """Where that is why a change found nothing to change; else it was made already."""
        user = await self.get(user_id)
        if user is not None and user.is_admin and user.suspended_at is None:
            raise InvalidRequest(f"{user.email} is the last admin of this server. Make another one first.", "email")

    async def _one(self, condition: str, value: str) -> User | None:
        rows = await self._database.rows(f"SELECT {_COLUMNS} FROM users u WHERE {condition}", value)
        return user_of(rows[0]) if rows else None


_SHOWN: dict[Shown, str] = {"all": "1 = 1", "admins": "u.is_admin = 1", "suspended": "u.suspended_at IS NOT NULL"}


def pattern_of(text: str) -> str:
    """What LIKE takes for whatever has `text` in it, escaped by a backslash. Databases refuse very long ones."""
    escaped = text[:_LONGEST_TEXT].lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


# For `$2`: he is no admin, or another one is there.
_ANOTHER_ADMIN = (
    "(is_admin = 0 OR EXISTS (SELECT 1 FROM users o WHERE o.id <> $2 AND o.is_admin = 1 AND o.suspended_at IS NULL))"
)


def user_columns() -> str:
    """What `user_of` takes, of a table named `u`."""
    return _COLUMNS


def user_of(row: Sequence[Any]) -> User:
    user_id, email, name, created_at, verified_at, suspended_at, is_admin, totp_confirmed_at, last_signed_in_at = row
    return User(
        *(user_id, email, name, created_at, verified_at, suspended_at),
        is_admin=bool(is_admin),
        two_factor=totp_confirmed_at is not None,
        last_signed_in_at=last_signed_in_at,
    )


@dataclass(frozen=True, slots=True)
class NewUser:
    """Somebody who is to be a user: e-mail, name and the hash of his password are right."""

    id: str
    email: str
    name: str
    password_hash: str

    @classmethod
    async def of(
        cls, passwords: Passwords, email: str, password: str, name: str = "", shortest: int = SHORTEST
    ) -> "NewUser":
        """InvalidRequest names the field that is wrong."""
        email = normal_email(email)
        refuse_email(email)
        name = person_name(name)
        refuse_password(password, email, shortest)
        return cls(new_id("usr"), email, name, await passwords.hash(password))

    def writes(self, at: int, *, verified: bool, only_first: bool = False) -> tuple[Write, ...]:
        """Who comes first is an admin of the instance, and ends the links that set it up; `only_first`: Conflict where
        somebody is there."""
        return (
            Write(
                "INSERT INTO first_user (one, user_id) VALUES (1, $1) ON CONFLICT DO NOTHING",
                (self.id,),
                rows=1 if only_first else None,
            ),
            Write(
                "INSERT INTO users (id, email, name, password_hash, created_at, verified_at, is_admin)"
                " SELECT $1, $2, $3, $4, $5, $6, (SELECT COUNT(*) FROM first_user f WHERE f.user_id = $1)"
                " WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.email = $2)",
                (self.id, self.email, self.name, self.password_hash, at, at if verified else None),
            ),
            Links.ending("setup", ""),
        )


def normal_email(email: str) -> str:
    return email.strip().lower()


def refuse_email(email: str) -> None:
    if not is_email(email):
        raise InvalidRequest(f"{email[:100]!r} is not an e-mail address.", "email")


def person_name(name: str) -> str:
    """A person's name without the space around it, or InvalidRequest. It may be empty."""
    name = name.strip()
    if len(name) > LONGEST_NAME or (name and not name.isprintable()):
        raise InvalidRequest(f"A name has at most {LONGEST_NAME} printable characters.", "name")
    return name
