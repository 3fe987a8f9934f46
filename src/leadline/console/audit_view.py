"""The audit log as pages show it: filters in the URL, pages by cursor, each change as a small difference."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import quote, urlencode

from leadline.accounts.audit_log import MOST_ROWS, AuditFilters, AuditRow
from leadline.accounts.management_keys import ACL_PREFIX, EVERYTHING
from leadline.administration.commands.dates import first_moment
from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_DAY, rfc3339
from leadline.console.csv_file import Cell
from leadline.money import show_usd

ROWS = 50
COLUMNS = ("time", "actor", "actor_id", "address", "action", "subject", "before", "after", "organisation_id", "id")
# The organisation is for the log of the whole server alone.
_FILTERS = ("text", "actor", "action", "since", "until", "organisation")
# The field whose value is a user's id. Others hold what people typed, which may be the id of a stranger.
_USER = "owner"
_WRONG_DAY = "Write a day as 2027-03-31."


@dataclass(frozen=True, slots=True)
class Difference:
    """One field. None: there is no value, before or after."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A row of the log for people. `subject` is what the row's id is called, `path` where it has a page."""

    row: AuditRow
    subject: str
    path: str
    differences: list[Difference]
    is_new: bool


@dataclass(frozen=True, slots=True)
class Asked:
    """What a URL asks for. `typed` is its text by name, `wrong` what is wrong with it."""

    filters: AuditFilters
    typed: Mapping[str, str]
    wrong: Mapping[str, str]
    before: str
    after: str

    @classmethod
    def of(cls, query: Mapping[str, str]) -> "Asked":
        typed = {name: query.get(name, "").strip()[:500] for name in _FILTERS}
        wrong: dict[str, str] = {}
        since, until = (_day(typed, name, wrong) for name in ("since", "until"))
        filters = AuditFilters(
            typed["actor"],
            typed["action"],
            typed["text"],
            since,
            # The last day counts whole.
            None if until is None else until + MICROSECONDS_PER_DAY,
        )
        before, after = (query.get(name, "")[:100] for name in ("before", "after"))
        return cls(filters, typed, wrong, before, after)

    @property
    def any(self) -> bool:
        """Whether anything is left out."""
        return any(self.typed.values())

    def path(self, page: str, **cursor: str) -> str:
        """The page's URL with the same filters."""
        named = {name: text for name, text in self.typed.items() if text} | cursor
        return f"{page}?{urlencode(named)}" if named else page


@dataclass(frozen=True, slots=True)
class Places:
    """Where what rows are about has pages: paths by kind, before the id."""

    paths: Mapping[str, str]

    def of(self, kind: str, subject_id: str) -> str:
        """Empty where there is no page."""
        return f"{self.paths[kind]}/{quote(subject_id)}" if kind in self.paths else ""


IN_ORGANISATION = Places({"key": "/keys"})
ON_SERVER = Places({"user": "/admin/users", "organisation": "/admin/organisations"})


async def audit_page(
    instance: Instance, organisation_id: str | None, asked: Asked, page: str, places: Places = IN_ORGANISATION
) -> dict[str, Any]:
    """The context of a page at the path `page`: of an organisation, or of the whole instance (None)."""
    log = instance.audit_log
    forward = bool(asked.after)
    cursor = asked.after or asked.before or None
    rows = await log.rows(organisation_id, asked.filters, cursor, ROWS + 1, oldest_first=forward)
    more, rows = len(rows) > ROWS, rows[:ROWS]
    if forward:
        rows.reverse()
    has_newer, has_older = (more, bool(rows)) if forward else (bool(asked.before) and bool(rows), more)
    emails = await _emails(instance, rows)
    return {
        "entries": [await _entry(instance, row, emails, places) for row in rows],
        "asked": asked,
        "page": page,
        "actors": await log.actors(organisation_id),
        "actions": _grouped(await log.actions(organisation_id)),
        "newer": asked.path(page, after=rows[0].id) if has_newer else None,
        "older": asked.path(page, before=rows[-1].id) if has_older else None,
        "csv": asked.path(f"{page}.csv"),
    }


async def audit_cells(
    instance: Instance, organisation_id: str | None, filters: AuditFilters
) -> AsyncIterator[list[Cell]]:
    """All rows that are like that, in the order of COLUMNS."""
    before: str | None = None
    while True:
        rows = await instance.audit_log.rows(organisation_id, filters, before, MOST_ROWS)
        for row in rows:
            changes = [_texts(fields) for fields in (row.before, row.after)]
            told = [rfc3339(row.at), row.actor_name, row.actor, row.address, row.action, row.subject]
            yield [*told, *changes, row.organisation_id, row.id]
        if len(rows) < MOST_ROWS:
            return
        before = rows[-1].id


def differences_of(row: AuditRow, emails: Mapping[str, str]) -> list[Difference]:
    """Field by field, those that were added last. Of something new only what is set; users by their e-mails."""
    names = [*row.before, *(name for name in row.after if name not in row.before)]
    found = [Difference(_words(name), *(_text(name, one, emails) for one in (row.before, row.after))) for name in names]
    if is_new(row):
        found = [one for one in found if one.after != "0"]
    return [one for one in found if one.before is not None or one.after is not None]


def is_new(row: AuditRow) -> bool:
    """Whether nothing was there before."""
    return all(value is None for value in row.before.values())


async def _entry(instance: Instance, row: AuditRow, emails: Mapping[str, str], places: Places) -> AuditEntry:
    subject, path = await _subject(instance, row, emails, places)
    return AuditEntry(row, subject, path, differences_of(row, emails), is_new(row))


async def _emails(instance: Instance, rows: list[AuditRow]) -> dict[str, str]:
    """Of the users that rows name, by their ids."""
    values = [value for row in rows for value in (row.subject, row.before.get(_USER), row.after.get(_USER))]
    ids = {value for value in values if isinstance(value, str) and value.startswith("usr_")}
    users = [await instance.users.get(user_id) for user_id in sorted(ids)]
    return {user.id: user.email for user in users if user is not None}


async def _subject(instance: Instance, row: AuditRow, emails: Mapping[str, str], places: Places) -> tuple[str, str]:
    """What the subject is called, and where it has a page."""
    if row.subject.startswith("usr_"):
        return emails.get(row.subject, row.subject), places.of("user", row.subject)
    if row.subject == row.organisation_id:
        organisation = await instance.organisations.get(row.subject)
        return (row.subject if organisation is None else organisation.name), places.of("organisation", row.subject)
    key = instance.keys.find_by_id(row.subject)
    if key is not None:
        return key.name, places.of("key", key.id)
    named = [one.name for one in instance.management_keys.of(row.organisation_id) if one.id == row.subject]
    return (named or [row.subject])[0], ""


def _grouped(actions: list[str]) -> list[tuple[str, str]]:
    """The choices of a filter: each action, and before those that share their first word that word."""
    options, group = [], ""
    for action in actions:
        first = action.split(" ")[0]
        if first != group:
            group = first
            if sum(other.split(" ")[0] == first for other in actions) > 1:
                options.append((first, f"{first} (all)"))
        options.append((action, action))
    return options


def _day(typed: Mapping[str, str], name: str, wrong: dict[str, str]) -> int | None:
    if not typed[name]:
        return None
    try:
        return first_moment(typed[name])
    except ValueError:
        wrong[name] = _WRONG_DAY
        return None


def _words(name: str) -> str:
    return name.removesuffix("_ticks").replace("_", " ")


def _text(name: str, fields: Mapping[str, Any], emails: Mapping[str, str] = MappingProxyType({})) -> str | None:
    """A value for people."""
    value = fields.get(name)
    match value:
        case None | "":
            return None
        case bool():
            return "yes" if value else "no"
        case int() if name.endswith("_ticks"):
            return show_usd(value)
        case list() | tuple():
            return ", ".join(map(str, value)) or None
        case _:
            text = str(value)
            named = text.replace(EVERYTHING, "everything").replace(ACL_PREFIX, "")
            return emails.get(text, named) if name == _USER else named


def _texts(fields: Mapping[str, Any]) -> str:
    return "; ".join(f"{_words(name)}: {text}" for name in fields if (text := _text(name, fields)) is not None)
