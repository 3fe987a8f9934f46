"""Audit events: who changed what in the organisation."""

from leadline.accounts.audit_log import AuditFilters, AuditRow
from leadline.accounts.organisations import Member
from leadline.errors import InvalidRequest
from leadline.management.call import Call, Routes
from leadline.management.wire import Json, integer_of, time_of, timestamp

_PAGE, _LARGEST_PAGE = 50, 100
_ORDERS = ("TIME_DESCENDING", "TIME_ASCENDING")


async def list_events(call: Call) -> Json:
    size = integer_of(call.parameter("pageSize") or _PAGE, "pageSize", _LARGEST_PAGE) or _PAGE
    order = call.parameter("orderBy") or _ORDERS[0]
    if order not in _ORDERS:
        raise InvalidRequest(f"orderBy is one of {', '.join(_ORDERS)}.", "orderBy")
    filters = AuditFilters(
        actor=call.parameter("eventFilter.userId") or "",
        text=call.parameter("eventFilter.query") or "",
        since=_time(call, "eventTimeFrom"),
        until=_time(call, "eventTimeTo"),
        event_id=call.parameter("eventFilter.eventId") or "",
    )
    log, token = call.instance.audit_log, call.parameter("pageToken")
    rows = await log.rows(call.organisation_id, filters, token, size + 1, oldest_first=order == "TIME_ASCENDING")
    members = {member.user.id: member for member in await call.instance.organisations.members(call.organisation_id)}
    answer: Json = {"events": [_event(row, members) for row in rows[:size]]}
    return answer | {"nextPageToken": rows[size - 1].id} if len(rows) > size else answer


def _time(call: Call, name: str) -> int | None:
    text = call.parameter(name)
    return time_of(text, name) if text is not None else None


def _event(row: AuditRow, members: dict[str, Member]) -> Json:
    member = members.get(row.actor)
    user: Json = {"userId": row.actor}
    if member is not None:
        user |= {"email": member.user.email, "givenName": member.user.name}
    return {
        "eventTime": timestamp(row.at),
        "eventId": row.id,
        "description": _description(row),
        "user": user,
    }


def _description(row: AuditRow) -> str:
    """A sentence: who did what to what, and what changed by it."""
    changes = "; ".join(
        f"{name}: {row.before.get(name)} → {value}" if row.before.get(name) is not None else f"{name}: {value}"
        for name, value in row.after.items()
    )
    return f"{row.actor_name}: {row.action} {row.subject}" + (f" ({changes})" if changes else "")


ROUTES: Routes = {("GET", "/audit/teams/{team_id}/events"): ("ListAuditEvents", list_events)}
