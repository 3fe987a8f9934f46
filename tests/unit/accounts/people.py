"""People and their organisations on a real database, with a clock that tests step."""

import json
from dataclasses import dataclass
from typing import Any

from leadline.accounts.actor import COMMAND_LINE
from leadline.accounts.audit_log import AuditLog
from leadline.accounts.links import Links
from leadline.accounts.organisations import Organisation, Organisations
from leadline.accounts.passwords import SHORTEST_BY_COMMAND, Passwords
from leadline.accounts.sessions import Sessions
from leadline.accounts.users import NewUser, User, Users
from leadline.ledger.ledger import Ledger
from leadline.storage.database import Database

PASSWORD = "correct horse"
NOON = 1_800_014_400_000_000  # 15 January 2027, 12:00 UTC
SECOND = 1_000_000


@dataclass
class Watch:
    now: int = NOON

    def __call__(self) -> int:
        return self.now


class People:
    """All of them."""

    def __init__(self, database: Database) -> None:
        self.database, self.watch = database, Watch()
        self.passwords = Passwords()
        self.sessions = Sessions(database, self.watch)
        self.users = Users(database, self.passwords, self.sessions, self.watch)
        self.organisations = Organisations(database, self.watch)
        self.links = Links(database, self.watch)
        self.audit_log = AuditLog(database)
        self.ledger = Ledger(database)

    async def new(self, email: str = "alice@example.com", password: str = PASSWORD) -> NewUser:
        return await NewUser.of(self.passwords, email, password, shortest=SHORTEST_BY_COMMAND)

    async def create(self, email: str = "alice@example.com", name: str = "Alice", **conditions: Any) -> Organisation:
        """A new organisation with its owner."""
        return await self.organisations.create(
            await self.new(email), name, self.ledger.opening, COMMAND_LINE, **conditions
        )

    async def user(self, email: str = "alice@example.com") -> User:
        return await self.users.named(email)

    async def logged(self) -> list[tuple[Any, ...]]:
        """The audit log without its ids, less the rows of what was created."""
        rows = await self.database.rows(
            "SELECT at, actor, action, subject, before, after FROM audit_log WHERE action <> 'accounts create'"
            " ORDER BY at"
        )
        return [(*row, json.loads(before), json.loads(after)) for *row, before, after in rows]
