"""Who is there: organisations and their users. An e-mail belongs to one user and never changes by itself."""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

from argon2 import PasswordHasher

from leadline.errors import InvalidRequest, NotFound
from leadline.ids import new_id
from leadline.storage.database import Database, Write

SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 1024
LONGEST_NAME = 200
_EMAIL = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,255}")


@dataclass(frozen=True, slots=True)
class User:
    id: str
    organisation_id: str
    email: str
    organisation: str


class Organisations:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def users(self) -> list[User]:
        """Every user, the first one first."""
        rows = await self._database.rows(
            "SELECT u.id, u.organisation_id, u.email, o.name FROM users u JOIN organisations o"
            " ON o.id = u.organisation_id ORDER BY u.created_at, u.id"
        )
        return [User(*row) for row in rows]

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
        now = time.time_ns() // 1000
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


def _normal(email: str) -> str:
    return email.strip().lower()


def _refuse(user: User, password: str) -> None:
    if not _EMAIL.fullmatch(user.email):
        raise InvalidRequest(f"{user.email!r} is not an e-mail address.", "email")
    if not 1 <= len(user.organisation) <= LONGEST_NAME or not user.organisation.isprintable():
        raise InvalidRequest(f"The organisation's name must have 1 to {LONGEST_NAME} printable characters.", "org")
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise InvalidRequest(
            f"The password must have {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters.", "password"
        )
