"""Organisations and who belongs to them. There is always an owner."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import audited
from leadline.accounts.keys import Leaving
from leadline.accounts.roles import Role
from leadline.accounts.users import MOST_SHOWN, NewUser, User, pattern_of, user_columns, user_of
from leadline.clock import Clock, now_microseconds
from leadline.errors import InvalidRequest, NotFound, PermissionDenied
from leadline.ids import new_id
from leadline.storage.database import Conflict, Database, Write

LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Organisation:
    """`suspended_at` is in microseconds; None: it is not."""

    id: str
    name: str
    created_at: int
    suspended_at: int | None = None


@dataclass(frozen=True, slots=True)
class Counted:
    """An organisation, and how many members it has."""

    organisation: Organisation
    members: int

    @property
    def id(self) -> str:
        return self.organisation.id


@dataclass(frozen=True, slots=True)
class Membership:
    """An organisation as one of its members sees it. `suspended_at` is the organisation's."""

    organisation_id: str
    organisation: str
    role: Role
    suspended_at: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A user as his organisation sees him. `joined_at` is in microseconds."""

    user: User
    role: Role
    joined_at: int


class NotMember(NotFound):
    """This organisation has no such member."""


class Organisations:
    """`clock` is the wall clock in microseconds."""

    def __init__(self, database: Database, clock: Clock = now_microseconds) -> None:
        self._database = database
        self._clock = clock
        self._suspended: frozenset[str] | None = None
        # What ends with a membership, of an organisation and a user.
        self.leaving: Callable[[str, str], Leaving] = lambda *_: Leaving((), lambda: None)

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

    async def all(self) -> list[Organisation]:
        """Every organisation, the first one first."""
        return [Organisation(*row) for row in await self._database.rows(f"{_ORGANISATIONS} ORDER BY created_at, id")]

    async def page(
        self,
        text: str = "",
        before: str | None = None,
        limit: int = 50,
        *,
        suspended: bool = False,
        oldest_first: bool = False,
    ) -> list[Counted]:
        """Those whose name or id has `text`, the newest first, with how many members each has. `before` is the id of a
        page's last one. With `oldest_first` they are those after it. `suspended`: no others."""
        compared, order = (">", "ASC") if oldest_first else ("<", "DESC")
        rows = await self._database.rows(
            "SELECT o.id, o.name, o.created_at, o.suspended_at,"
            " (SELECT COUNT(*) FROM memberships m WHERE m.organisation_id = o.id) FROM organisations o"
            f" WHERE o.id {compared} $1 AND (LOWER(o.name) LIKE $2 ESCAPE '\\' OR o.id LIKE $2 ESCAPE '\\')"
            f"{' AND o.suspended_at IS NOT NULL' if suspended else ''} ORDER BY o.id {order} LIMIT $3",
            *(before or ("" if oldest_first else "org_~"), pattern_of(text), max(1, min(limit, MOST_SHOWN))),
        )
        return [Counted(Organisation(*row[:4]), row[4]) for row in rows]

    async def get(self, organisation_id: str) -> Organisation | None:
        rows = await self._database.rows(f"{_ORGANISATIONS} WHERE id = $1", organisation_id)
        return Organisation(*rows[0]) if rows else None

    async def of_email(self, email: str | None) -> Organisation:
        """Whose the command line means: the organisation of this id, or that to which the user with this e-mail came
        first; None: the only one."""
        if email is None:
            match await self.all():
                case []:
                    raise NotFound("There is no organisation yet. Create it with `leadline init`.")
                case [only]:
                    return only
                case _:
                    raise InvalidRequest("There are several organisations. Say whose with --email.", "email")
        rows = await self._database.rows(
            "SELECT o.id, o.name, o.created_at, o.suspended_at FROM organisations o LEFT JOIN memberships m"
            " ON m.organisation_id = o.id LEFT JOIN users u ON u.id = m.user_id WHERE u.email = $1 OR o.id = $2"
            " ORDER BY m.created_at, o.created_at, o.id LIMIT 1",
            *(email.strip().lower(), email.strip()),
        )
        if not rows:
            raise NotFound(f"Nobody here has the e-mail {email}. `leadline accounts list` shows who does.")
        return Organisation(*rows[0])

    async def of_user(self, user_id: str) -> list[Membership]:
        """Those to which a user belongs, the one to which he came first first."""
        rows = await self._database.rows(
            "SELECT o.id, o.name, m.role, o.suspended_at FROM memberships m JOIN organisations o"
            " ON o.id = m.organisation_id WHERE m.user_id = $1 ORDER BY m.created_at, o.id",
            user_id,
        )
        return [Membership(*row) for row in rows]

    async def members(self, organisation_id: str) -> list[Member]:
        """Who came first is first."""
        rows = await self._database.rows(
            f"SELECT {user_columns()}, m.role, m.created_at FROM memberships m JOIN users u ON u.id = m.user_id"
            " WHERE m.organisation_id = $1 ORDER BY m.created_at, u.created_at, u.id",
            organisation_id,
        )
        return [Member(user_of(user), role, joined_at) for *user, role, joined_at in rows]

    async def first_member(self, organisation_id: str) -> str:
        """The user's id."""
        return (await self.members(organisation_id))[0].user.id

    async def create(
        self,
        person: NewUser | User,
        organisation: str,
        opening: Callable[[str], Write],
        actor: Actor,
        *,
        verified: bool = True,
        only_first: bool = False,
        suspended: bool = False,
        also: Sequence[Write] = (),
    ) -> Organisation:
        """A new organisation and its owner, a new user or one who is there. `opening` gives the write that opens its
        account in the ledger. All of it and `also` is one commit: with `only_first`, or where one of `also` meets
        nothing, whoever comes second is a Conflict. One that is `suspended` waits to be resumed."""
        now = self._clock()
        made = Organisation(new_id("org"), organisation_name(organisation), now, now if suspended else None)
        user_writes = (
            person.writes(made.created_at, verified=verified, only_first=only_first)
            if isinstance(person, NewUser)
            else ()
        )
        try:
            await self._database.commit(
                *also,
                *user_writes,
                Write(
                    "INSERT INTO organisations (id, name, created_at, suspended_at) VALUES ($1, $2, $3, $4)",
                    (made.id, made.name, made.created_at, made.suspended_at),
                ),
                _joining(made.id, person.id, "owner", made.created_at),
                opening(made.id),
                audited(
                    *(made.created_at, actor, "accounts create", made.id),
                    ({}, {"organisation": made.name, "email": person.email}),
                    made.id,
                ),
            )
        except Conflict:
            await self._refuse_taken(person)
            raise
        if suspended:
            await self.load()
        return made

    async def join(
        self, person: NewUser | User, organisation_id: str, role: Role, actor: Actor, also: Sequence[Write] = ()
    ) -> None:
        """A further member: a new user, or one who is there. All of it and `also` is one commit: Conflict."""
        now = self._clock()
        user_writes = person.writes(now, verified=True) if isinstance(person, NewUser) else ()
        changes = {"role": None}, {"role": role, "email": person.email}
        try:
            await self._database.commit(
                *also,
                *user_writes,
                _joining(organisation_id, person.id, role, now),
                audited(now, actor, "members add", person.id, changes, organisation_id),
            )
        except Conflict:
            await self._refuse_taken(person)
            if any(one.organisation_id == organisation_id for one in await self.of_user(person.id)):
                raise InvalidRequest(f"{person.email} is a member already.", "email") from None
            raise

    async def add_member(self, organisation_id: str, user: User, role: Role, actor: Actor) -> None:
        """As `join`, of somebody who is there."""
        await self.join(user, organisation_id, role, actor)

    async def change_role(
        self, organisation_id: str, user_id: str, role: Role, actor: Actor, acting: Role = "owner"
    ) -> None:
        """`acting` is the role of who does it: only an owner makes or unmakes owners. The last owner stays:
        InvalidRequest."""
        member = await self._member(organisation_id, user_id)
        _refuse_owners({member.role, role}, acting)
        if member.role == role:
            return
        write = Write(
            "UPDATE memberships SET role = $3 WHERE organisation_id = $1 AND user_id = $2 AND role = $4"
            f" AND {_ANOTHER_OWNER}",
            (organisation_id, user_id, role, member.role),
        )
        changes = {"role": member.role}, {"role": role}
        await self._change_member(
            member, write, audited(self._clock(), actor, "members role", user_id, changes, organisation_id)
        )

    async def remove_member(self, organisation_id: str, user_id: str, actor: Actor, acting: Role = "owner") -> None:
        """As `change_role`. What he made, his keys among it, stays the organisation's; his playground ends."""
        member = await self._member(organisation_id, user_id)
        _refuse_owners({member.role}, acting)
        write = Write(
            f"DELETE FROM memberships WHERE organisation_id = $1 AND user_id = $2 AND role = $3 AND {_ANOTHER_OWNER}",
            (organisation_id, user_id, member.role),
        )
        changes = {"role": member.role, "email": member.user.email}, {"role": None}
        row = audited(self._clock(), actor, "members remove", user_id, changes, organisation_id)
        leaving = self.leaving(organisation_id, user_id)

        async def both() -> None:
            await self._change_member(member, write, row, *leaving.writes)
            leaving.remember()

        await asyncio.shield(asyncio.ensure_future(both()))

    async def rename(self, organisation_id: str, name: str, actor: Actor) -> None:
        name = organisation_name(name)
        known = await self.get(organisation_id)
        if known is None:
            raise NotFound("There is no such organisation.")
        changes = {"name": known.name}, {"name": name}
        await self._database.commit(
            Write("UPDATE organisations SET name = $1 WHERE id = $2", (name, organisation_id)),
            audited(self._clock(), actor, "accounts rename", organisation_id, changes, organisation_id),
        )

    async def suspend(self, organisation_id: str, actor: Actor) -> None:
        """Refuse all its keys from the next request on. A second time changes nothing."""
        now = self._clock()
        changes = {"suspended": False}, {"suspended": True}
        await self._change_suspension(
            Write(
                "UPDATE organisations SET suspended_at = $1 WHERE id = $2 AND suspended_at IS NULL",
                (now, organisation_id),
            ),
            audited(now, actor, "accounts suspend", organisation_id, changes, organisation_id),
        )

    async def resume(self, organisation_id: str, actor: Actor) -> None:
        """Let its keys work again. A second time changes nothing."""
        changes = {"suspended": True}, {"suspended": False}
        await self._change_suspension(
            Write(
                "UPDATE organisations SET suspended_at = NULL WHERE id = $1 AND suspended_at IS NOT NULL",
                (organisation_id,),
            ),
            audited(self._clock(), actor, "accounts resume", organisation_id, changes, organisation_id),
        )

    async def _member(self, organisation_id: str, user_id: str) -> Member:
        for member in await self.members(organisation_id):
            if member.user.id == user_id:
                return member
        raise NotMember

    async def _change_member(self, member: Member, *writes: Write) -> None:
        try:
            await self._database.commit(*writes)
        except Conflict:
            if member.role == "owner":
                raise InvalidRequest(
                    f"{member.user.email} is the last owner. Make somebody else an owner first.", "role"
                ) from None
            raise InvalidRequest(f"{member.user.email} was changed meanwhile. Look again.", "role") from None

    async def _refuse_taken(self, person: NewUser | User) -> None:
        """Where somebody else has a new user's e-mail."""
        if not isinstance(person, NewUser):
            return
        if await self._database.rows("SELECT 1 FROM users WHERE email = $1", person.email):
            raise InvalidRequest(f"{person.email} is already signed up.", "email") from None

    async def _change_suspension(self, change: Write, row: Write) -> None:
        """Commit and remember, as one: where the caller is cancelled meanwhile, both still happen."""

        async def both() -> None:
            # A conflict: it is so already.
            with suppress(Conflict):
                await self._database.commit(change, row)
            await self.load()

        await asyncio.shield(asyncio.ensure_future(both()))


_ORGANISATIONS = "SELECT id, name, created_at, suspended_at FROM organisations"
# For `$1` and `$2`: the member is no owner, or another one is there.
_ANOTHER_OWNER = (
    "(role <> 'owner' OR EXISTS (SELECT 1 FROM memberships o WHERE o.organisation_id = $1 AND o.user_id <> $2"
    " AND o.role = 'owner'))"
)


def _joining(organisation_id: str, user_id: str, role: Role, at: int) -> Write:
    return Write(
        "INSERT INTO memberships (organisation_id, user_id, role, created_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING",
        (organisation_id, user_id, role, at),
    )


def _refuse_owners(roles: set[Any], acting: Role) -> None:
    if "owner" in roles and acting != "owner":
        raise PermissionDenied("Only an owner makes somebody an owner, or changes one.")


def organisation_name(name: str) -> str:
    """An organisation's name without the space around it, or InvalidRequest."""
    name = name.strip()
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"The organisation's name must have 1 to {LONGEST_NAME} printable characters.", "org")
    return name
