"""All organisations of this server: what they have, what they use, and their suspension."""

from collections.abc import AsyncIterator
from urllib.parse import quote, urlencode

from starlette.responses import Response

from leadline.accounts.organisations import Counted, Organisation
from leadline.accounts.users import MOST_SHOWN
from leadline.administration.commands.accounts import resume_account, suspend_account
from leadline.clock import rfc3339
from leadline.console.csv_file import Cell, csv_file
from leadline.console.page import Page
from leadline.console.turning import path_of, turned
from leadline.console.visit import Visit
from leadline.errors import NotFound
from leadline.ledger.spend_limits import spend_limits
from leadline.ledger.used import Used, used

PATH = "/admin/organisations"
COLUMNS = (
    *("id", "name", "created_at", "suspended_at", "members", "balance_ticks", "held_ticks"),
    *("requests_30_days", "tokens_30_days", "cost_30_days_ticks"),
)
DAYS = 30
_NOTHING = Used()


async def show(visit: Visit) -> Response:
    text, suspended = visit.query("q"), visit.query("show") == "suspended"
    instance = visit.instance

    async def fetch(cursor: str | None, limit: int, *, oldest_first: bool) -> list[Counted]:
        return await instance.organisations.page(text, cursor, limit, suspended=suspended, oldest_first=oldest_first)

    kept = {"q": text, "show": "suspended" if suspended else ""}
    page = await turned(fetch, visit.request.query_params, PATH, kept)
    usage = await used(instance.database, [one.id for one in page.rows], DAYS, instance.keys.clock())
    return visit.render(
        "admin/organisations.html",
        page=page,
        meters={one.id: instance.ledger.meter(one.id) for one in page.rows},
        usage={one.id: usage.get(one.id, _NOTHING) for one in page.rows},
        days=DAYS,
        text=text,
        choices=[
            (path_of(PATH, {"q": text}), "All", None),
            (path_of(PATH, {"q": text, "show": "suspended"}), "Suspended", None),
        ],
        kept=[(name, value) for name, value in kept.items() if value and name != "q"],
        here=path_of(PATH, kept),
        csv=path_of(f"{PATH}.csv", kept),
    )


async def download(visit: Visit) -> Response:
    return csv_file(
        "organisations.csv", COLUMNS, _cells(visit, visit.query("q"), suspended=visit.query("show") == "suspended")
    )


async def show_one(visit: Visit) -> Response:
    organisation, instance = await _found(visit), visit.instance
    usage = await used(instance.database, [organisation.id], DAYS, instance.keys.clock())
    return visit.render(
        "admin/organisation.html",
        organisation=organisation,
        members=await instance.organisations.members(organisation.id),
        keys=[key for key in instance.keys.of(organisation.id) if key.revoked_at is None],
        balance=instance.ledger.balance(organisation.id),
        meter_of=instance.ledger.meter(organisation.id),
        usage=usage.get(organisation.id, _NOTHING),
        days=DAYS,
        limits=await spend_limits(instance.database, organisation.id),
        spent=instance.ledger.spent_in_month(organisation.id),
        rates=instance.config.limits.default,
        grants=f"/admin/grants?{urlencode({'organisation': organisation.id})}",
        audit=f"/admin/audit?{urlencode({'organisation': organisation.id})}",
    )


async def suspend(visit: Visit) -> Response:
    organisation = await _found(visit)
    await suspend_account(visit.instance, visit.actor, organisation.id)
    return visit.redirect(_path(organisation), f"{organisation.name} is suspended: requests with its keys are refused.")


async def resume(visit: Visit) -> Response:
    organisation = await _found(visit)
    await resume_account(visit.instance, visit.actor, organisation.id)
    return visit.redirect(_path(organisation), f"{organisation.name} works again.")


PAGES = (
    Page(PATH, "admin-organisations", "admin", show),
    Page(f"{PATH}.csv", "admin-organisations", "admin", download),
    Page(f"{PATH}/{{organisation}}", "admin-organisations", "admin", show_one),
    Page(f"{PATH}/{{organisation}}/suspend", "admin-organisations", "admin", post=suspend),
    Page(f"{PATH}/{{organisation}}/resume", "admin-organisations", "admin", post=resume),
)


async def _found(visit: Visit) -> Organisation:
    organisation = await visit.instance.organisations.get(visit.request.path_params["organisation"])
    if organisation is None:
        raise NotFound("There is no such organisation.")
    return organisation


async def _cells(visit: Visit, text: str, *, suspended: bool) -> AsyncIterator[list[Cell]]:
    instance, before = visit.instance, None
    while True:
        rows = await instance.organisations.page(text, before, MOST_SHOWN, suspended=suspended)
        usage = await used(instance.database, [one.id for one in rows], DAYS, instance.keys.clock())
        for row in rows:
            one, balance, spent = row.organisation, instance.ledger.balance(row.id), usage.get(row.id, _NOTHING)
            since = None if one.suspended_at is None else rfc3339(one.suspended_at)
            yield [
                *(one.id, one.name, rfc3339(one.created_at), since, row.members),
                *(balance.balance_ticks, balance.held_ticks, spent.requests, spent.tokens, spent.cost_ticks),
            ]
        if len(rows) < MOST_SHOWN:
            return
        before = rows[-1].id


def _path(organisation: Organisation) -> str:
    return f"{PATH}/{quote(organisation.id)}"
