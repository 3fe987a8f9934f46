"""What was used: sums of a time by what they are grouped by."""

from dataclasses import asdict
from typing import get_args

from msgspec import structs

from leadline.administration.commands import dates
from leadline.administration.commands.command import Command, Result
from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, rfc3339
from leadline.errors import InvalidRequest
from leadline.ledger.usage import COUNTS, Group, UsageBook, UsageRecord

DEFAULT_SINCE = "7d"


async def show_usage(instance: Instance, by: Group, since: str | None, until: str | None, email: str | None) -> Result:
    """`since` is a duration until now or a day in UTC [7d], `until` the last day [today]. Days count whole, hours where
    they are asked for by hours; the result says from when until when that is."""
    if by not in get_args(Group):
        raise InvalidRequest(f"Usage has no groups by {by!r}. Write one of {', '.join(get_args(Group))}.", "by")
    organisation = await instance.organisations.of_email(email)
    now = instance.keys.clock()
    length = MICROSECONDS_PER_HOUR if by == "hour" else MICROSECONDS_PER_DAY
    begins, ends = (
        moment // length * length for moment in (beginning(since or DEFAULT_SINCE, now), ending(until, now))
    )
    if begins > ends:
        raise InvalidRequest("The time ends before it begins. Give an earlier --since or a later --until.", "since")
    sums = await UsageBook(instance.database).sums(organisation.id, begins, ends + length, by)
    rows = [_group(instance, one.group, by) | {name: getattr(one, name) for name in COUNTS} for one in sums]
    return {
        "since": rfc3339(begins),
        "until": rfc3339(ends + length),
        "by": by,
        "rows": rows,
        "total": {name: sum(row[name] for row in rows) for name in COUNTS},
    }


CHANGES: dict[str, Command] = {}
READS: dict[str, Command] = {
    "usage": show_usage,
}


def beginning(text: str, now: int) -> int:
    """When a time begins: a duration until now, or a day."""
    try:
        return max(0, dates.beginning(text, now))
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a time. Write 7d, 24h or 2027-03-31.", "since") from None


def ending(text: str | None, now: int) -> int:
    """The last moment of a time: of a day, but never later than now."""
    try:
        return now if text is None else min(now, dates.last_moment(text))
    except ValueError as error:
        raise InvalidRequest(f"{error}.", "until") from None


def _group(instance: Instance, group: str | int, by: Group) -> Result:
    match by:
        case "day":
            return {"group": rfc3339(int(group) * MICROSECONDS_PER_DAY)[: len("2027-03-31")]}
        case "hour":
            return {"group": rfc3339(int(group) * MICROSECONDS_PER_HOUR)}
        case "key":
            return {"group": group} | key_words(instance, str(group))
        case _:
            return {"group": group}


def key_words(instance: Instance, key_id: str) -> Result:
    """How people know the key."""
    key = instance.keys.find_caller(key_id)
    if key is None:
        return {"key_name": "", "key": key_id}
    return {"key_name": key.name, "key": key.redacted}


def record_result(instance: Instance, record: UsageRecord) -> Result:
    """A request as it is shown."""
    fields: Result = structs.asdict(record)
    usage = asdict(fields.pop("usage"))
    del fields["organisation_id"]
    times = {name: rfc3339(fields[name]) for name in ("began_at", "at")}
    return fields | times | usage | key_words(instance, record.key_id)
