"""The audit log: who changed what by hand. A row is written in the commit of its change."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from leadline.accounts.actor import Actor
from leadline.ids import new_ordered_id
from leadline.storage.database import Database, Row, Value, Write

MOST_ROWS = 200
# What is looked for beyond it is not looked at: databases refuse very long patterns.
_LONGEST_TEXT = 500
# Of a long log, so that a page costs the same whatever its age.
_LOOKED_AT = 5_000
Fields = Mapping[str, Value]


def audited(
    at: int, actor: Actor, action: str, subject: str, changes: tuple[Fields, Fields], organisation_id: str = ""
) -> Write:
    """The row of an action on a subject (an id). `changes` are the fields before and after it; `at` in microseconds.
    Without an organisation it is in the instance's log alone."""
    before, after = (json.dumps(fields, ensure_ascii=False) for fields in changes)
    return Write(
        "INSERT INTO audit_log (id, at, actor, action, subject, before, after, actor_name, address, organisation_id)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        (
            *(new_ordered_id("aud"), at, actor.id, action, subject, before, after),
            *(actor.name, actor.address, organisation_id),
        ),
    )


def differences(before: Fields, after: Fields) -> tuple[Fields, Fields]:
    """Both, without what is the same in both."""
    changed = [name for name in after if before.get(name) != after[name]]
    return {name: before.get(name) for name in changed}, {name: after[name] for name in changed}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One action. `before` and `after` have the fields that changed."""

    id: str
    at: int
    actor: str
    actor_name: str
    address: str
    organisation_id: str
    action: str
    subject: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditFilters:
    """What rows must be like; nothing: however they are. `text` stands in actor's name, action, subject and changes,
    one after the other; `action` is one, or the first word of several, such as `keys`; times are in microseconds,
    `until` the first one that is too late."""

    actor: str = ""
    action: str = ""
    text: str = ""
    since: int | None = None
    until: int | None = None
    event_id: str = ""


class AuditLog:
    """Reads the log, the newest row first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rows(
        self,
        organisation_id: str | None,
        filters: AuditFilters = AuditFilters(),
        before: str | None = None,
        limit: int = 50,
        *,
        oldest_first: bool = False,
    ) -> list[AuditRow]:
        """Those of an organisation, or of all and of the instance (None). `before` is the id of a page's last row; one
        of another organisation's rows gives nothing away."""
        conditions, values = _conditions(organisation_id, filters, before, ">" if oldest_first else "<")
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        found = await self._database.rows(
            "SELECT id, at, actor, actor_name, address, organisation_id, action, subject, before, after"
            f" FROM audit_log{where} ORDER BY id {'ASC' if oldest_first else 'DESC'} LIMIT ${len(values) + 1}",
            *values,
            max(1, min(limit, MOST_ROWS)),
        )
        return [_row_of(row) for row in found]

    async def actions(self, organisation_id: str | None) -> list[str]:
        """The actions of the newest rows, by name."""
        newest, values = _newest(organisation_id)
        found = await self._database.rows(f"SELECT DISTINCT action FROM {newest} ORDER BY action", *values)
        return [action for (action,) in found]

    async def actors(self, organisation_id: str | None) -> list[tuple[str, str]]:
        """Who is in the newest rows: ids, and the names that they had last."""
        newest, values = _newest(organisation_id)
        found = await self._database.rows(
            "SELECT a.actor, a.actor_name FROM audit_log a"
            f" JOIN (SELECT MAX(id) AS last FROM {newest} GROUP BY actor) l ON l.last = a.id"
            " ORDER BY a.actor_name, a.actor",
            *values,
        )
        return [(actor, name) for actor, name in found]


def _newest(organisation_id: str | None) -> tuple[str, tuple[Value, ...]]:
    """As many rows as are looked at for what a log has in it."""
    where, values = ("", ()) if organisation_id is None else (" WHERE organisation_id = $1", (organisation_id,))
    return f"(SELECT id, actor, action FROM audit_log{where} ORDER BY id DESC LIMIT {_LOOKED_AT}) newest", values


def _row_of(row: Row) -> AuditRow:
    row_id, at, actor, actor_name, address, organisation_id, action, subject, before, after = row
    return AuditRow(
        *(row_id, at, actor, actor_name, address, organisation_id, action, subject),
        before=json.loads(before),
        after=json.loads(after),
    )


def _conditions(
    organisation_id: str | None, filters: AuditFilters, before: str | None, behind: str
) -> tuple[list[str], list[Value]]:
    wanted: list[tuple[str, Value]] = []
    if organisation_id is not None:
        wanted.append(("organisation_id = {}", organisation_id))
    if before is not None:
        wanted.append((f"id {behind} {{}}", before))
    if filters.event_id:
        wanted.append(("id = {}", filters.event_id))
    if filters.actor:
        wanted.append(("actor = {}", filters.actor))
    if " " in filters.action:  # a whole action, by its index
        wanted.append(("action = {}", filters.action))
    elif filters.action:
        wanted.append(("SUBSTR(action || ' ', 1, LENGTH({0}) + 1) = {0} || ' '", filters.action))
    if filters.since is not None:
        wanted.append(("at >= {}", filters.since))
    if filters.until is not None:
        wanted.append(("at < {}", filters.until))
    if filters.text:
        escaped = filters.text[:_LONGEST_TEXT].lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        told = "actor_name || ': ' || action || ' ' || subject || ' ' || before || ' ' || after"
        wanted.append((f"LOWER({told}) LIKE {{}} ESCAPE '\\'", f"%{escaped}%"))
    conditions = [f"({condition.format(f'${number}')})" for number, (condition, _) in enumerate(wanted, 1)]
    return conditions, [value for _, value in wanted]
