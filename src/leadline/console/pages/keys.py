"""API keys: the list, one that is new, and each by itself."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import msgspec
from starlette.responses import JSONResponse, Response

from leadline.accounts.api_key import ENDPOINTS, NO_LIMIT, NONE, ApiKey, KeyOptions, State
from leadline.accounts.keys import KeyUse
from leadline.administration.commands.keys import chosen_options, key_name, overlap_of
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.console.attention import EXPIRES_SOON_DAYS, needs
from leadline.console.page import Page
from leadline.console.snippets import KEY_VARIABLE, Ask, snippets
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound
from leadline.ledger.overview import KeySpark, sparks
from leadline.ledger.usage import UsageBook
from leadline.money import TICKS_PER_USD, show_usd

_ENDPOINT_NAMES = {
    "chat": "Chat, Responses, Messages",
    "sample": "Text completions",
    "embed": "Embeddings",
    "tokenize": "Tokenizer",
    "models": "Models",
    "image": "Images",
    "files": "Files",
    "batch": "Batches",
    # Of keys that were made for nothing: it stands alone, and new ones are not offered it.
    "none": "Nothing at all",
}
_EXPIRIES = (("30d", "In 30 days"), ("90d", "In 90 days"), ("365d", "In a year"), ("", "Never"))
_PERIODS = (("month", "a month"), ("week", "a week"), ("day", "a day"))
_OVERLAPS = (("0s", "Stop it at once"), ("1h", "One hour"), ("24h", "24 hours"), ("7d", "Seven days"))
_LIMITS = ("requests_per_second", "requests_per_minute", "tokens_per_minute", "concurrent_requests")
_SHOWN = ("active", "attention", "disabled", "revoked", "all")
_EXPIRES_SOON = EXPIRES_SOON_DAYS * MICROSECONDS_PER_DAY
# A new secret waits so long for its page.
_SECRET, _SECRET_SECONDS = "secret", 300
_REQUESTS_LOOKED_AT = 200
_NO_SPARK = KeySpark((0,) * 14, (0,) * 14)


@dataclass(frozen=True, slots=True)
class KeyRow:
    """A key as the list shows it. `spent_ticks` are those of its cap's period, or of this month; `needs` say why to
    look at it."""

    key: ApiKey
    state: State
    spark: KeySpark
    spent_ticks: int
    last_use: KeyUse | None
    soon: bool
    needs: tuple[str, ...]

    @property
    def percent(self) -> int | None:
        return None if self.key.cap is None else min(100, self.spent_ticks * 100 // self.key.cap.ticks)


async def list_keys(visit: Visit) -> Response:
    return await _list(visit)


async def show_new(visit: Visit) -> Response:
    """The list, with the form for a new key open."""
    return await _list(visit, form=_typed_new(visit, {}), wrong={})


async def create(visit: Visit) -> Response:
    """The new key's secret is shown on its own page, once."""
    try:
        options = chosen_options(KeyOptions(key_name(visit.form["name"])), _named(visit), visit.instance.keys.clock())
    except InvalidRequest as error:
        return await _list(visit, form=_typed(visit), wrong={_field(error): str(error)})
    key, text = await visit.instance.keys.create(visit.organisation_id, options, visit.actor)
    return _show_once(visit, key, text)


async def show_key(visit: Visit) -> Response:
    return await _one(visit, _found(visit))


async def change(visit: Visit) -> Response:
    key = _alive(visit)
    try:
        named = {"name": visit.form["name"]} | _named(visit)
        options = chosen_options(key.options, named, visit.instance.keys.clock())
    except InvalidRequest as error:
        return await _one(visit, key, form=_typed(visit), wrong={_field(error): str(error)}, status=400)
    await visit.instance.keys.change(key, options, visit.actor)
    return visit.redirect(f"/keys/{key.id}", "Saved. It holds from the next request on.")


async def rotate(visit: Visit) -> Response:
    key = _alive(visit)
    rotated, text = await visit.instance.keys.rotate(key, overlap_of(visit.form["overlap"] or "24h"), visit.actor)
    return _show_once(visit, rotated, text)


async def disable(visit: Visit) -> Response:
    key = _alive(visit)
    await visit.instance.keys.disable(key, visit.actor)
    return visit.redirect(f"/keys/{key.id}", f"{key.name} is disabled: its requests are refused.")


async def enable(visit: Visit) -> Response:
    key = _alive(visit)
    await visit.instance.keys.enable(key, visit.actor)
    return visit.redirect(f"/keys/{key.id}", f"{key.name} works again.")


async def revoke(visit: Visit) -> Response:
    """For good. A key that was used in the last day is revoked by typing its name."""
    key = _found(visit)
    if key.revoked_at is None and _in_use(visit, key) and visit.form["confirmation"] != key.name:
        wrong = {"confirmation": f"Type {key.name} to revoke it: it was used in the last 24 hours."}
        return await _one(visit, key, wrong=wrong, status=400)
    await visit.instance.keys.revoke(key, visit.actor)
    return visit.redirect("/keys?show=revoked", f"{key.name} is revoked.")


async def show_secret(visit: Visit) -> Response:
    """Once: the secret is gone from the cookie with this answer."""
    key = _found(visit)
    kept = visit.cookies.open(_SECRET)
    visit.cookies.forget(_SECRET)
    key_id, text = ("", "") if kept is None else msgspec.json.decode(kept, type=tuple[str, str])
    programs = [(one.name, one.code) for one in snippets(Ask(_model_for(visit, key)), visit.host)]
    return visit.render(
        "key_secret.html",
        key=key,
        text=text if key_id == key.id else "",
        programs=programs,
        variable=KEY_VARIABLE,
        # The first request after now is waited for: an older one is of the time before a rotation.
        since=visit.instance.keys.clock(),
    )


async def first_request(visit: Visit) -> Response:
    """As JSON: the key's first request since a moment (microseconds), or null while there is none."""
    key, since = _found(visit), visit.query("since")
    after = int(since) if since.isascii() and since.isdigit() and len(since) <= 16 else 0
    last_used = visit.instance.keys.last_used_at(key.id)
    if last_used is None or last_used < after:
        return JSONResponse({"request": None})
    records = await UsageBook(visit.instance.database).records(visit.organisation_id, limit=_REQUESTS_LOOKED_AT)
    mine = [one for one in records if one.key_id == key.id and one.began_at >= after]
    if not mine:
        return JSONResponse({"request": None})
    first = mine[-1]
    tokens = first.usage.prompt_tokens + first.usage.output_tokens + first.usage.reasoning_tokens
    return JSONResponse(
        {
            "request": {
                "id": first.request_id,
                "status": first.status,
                "error": first.error,
                "model": first.model,
                "tokens": tokens,
                "cost": show_usd(first.cost_ticks),
            }
        }
    )


PAGES = (
    Page("/keys", "keys", "see", list_keys, create, "keys"),
    Page("/keys/new", "keys", "keys", show_new),
    Page("/keys/{key}", "keys", "see", show_key, change, "keys"),
    Page("/keys/{key}/secret", "keys", "keys", show_secret),
    Page("/keys/{key}/first-request", "keys", "see", first_request),
    Page("/keys/{key}/rotate", "keys", "keys", post=rotate),
    Page("/keys/{key}/disable", "keys", "keys", post=disable),
    Page("/keys/{key}/enable", "keys", "keys", post=enable),
    Page("/keys/{key}/revoke", "keys", "keys", post=revoke),
)


async def _list(visit: Visit, form: dict[str, Any] | None = None, wrong: dict[str, str] | None = None) -> Response:
    show, text = visit.query("show") or "active", visit.query("q")
    show = show if show in _SHOWN else "active"
    rows = await _rows(visit)
    counts = {name: sum(_is_shown(row, name) for row in rows) for name in _SHOWN}
    chosen = [row for row in rows if _is_shown(row, show)]
    if text:
        chosen = [row for row in chosen if text.lower() in f"{row.key.name} {row.key.redacted}".lower()]
    here = f"/keys?show={show}" if "show" in visit.request.query_params else "/keys"
    return visit.render(
        "keys.html",
        400 if wrong else 200,
        rows=chosen,
        any_key=bool(rows),
        counts=counts,
        show=show,
        text=text,
        here=here,
        form=form if form is not None else _typed_new(visit, {}),
        open=form is not None,
        wrong=wrong or {},
        **_choices(visit),
        programs=[(one.name, one.code) for one in snippets(Ask(visit.model), visit.host)],
        endpoint_names=_ENDPOINT_NAMES,
    )


async def _one(
    visit: Visit,
    key: ApiKey,
    form: dict[str, Any] | None = None,
    wrong: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    [row] = [one for one in await _rows(visit) if one.key.id == key.id]
    maker = await visit.instance.users.get(key.created_by) if key.created_by else None
    return visit.render(
        "key.html",
        status,
        row=row,
        key=key,
        maker="the command line" if maker is None else maker.email,
        form=form if form is not None else _typed_of(key),
        wrong=wrong or {},
        in_use=_in_use(visit, key),
        overlaps=_OVERLAPS,
        **_choices(visit, key),
        endpoint_names=_ENDPOINT_NAMES,
        log=f"/log?{urlencode({'key': key.id})}",
        audit=f"/audit?{urlencode({'text': key.id})}",
    )


async def _rows(visit: Visit) -> list[KeyRow]:
    instance, now = visit.instance, visit.instance.keys.clock()
    by_key = await sparks(instance.database, visit.organisation_id, now)
    rows = []
    for key in reversed(instance.keys.of(visit.organisation_id)):
        period = "month" if key.cap is None else key.cap.period
        soon = key.expires_at is not None and now < key.expires_at < now + _EXPIRES_SOON
        spent = instance.ledger.spent_by_key(key.id, period)
        spark, last_use = by_key.get(key.id, _NO_SPARK), instance.keys.last_use(key.id)
        why = needs(key, None if last_use is None else last_use.at, now)
        rows.append(KeyRow(key, key.state(now), spark, spent, last_use, soon, why))
    return rows


def _is_shown(row: KeyRow, show: str) -> bool:
    """Who looks for active keys finds those that have expired, too."""
    if show == "attention":
        return bool(row.needs)
    return show in ("all", row.state) or (show == "active" and row.state == "expired")


def _choices(visit: Visit, key: ApiKey | None = None) -> dict[str, Any]:
    """What forms for keys offer; for a key that is there also what it has and no other would be given, such as an
    alias: what is not offered is not sent, and a scope of which nothing is left means all."""
    endpoints, models = (key.endpoints, key.models) if key is not None else (frozenset[str](), frozenset[str]())
    names = [model.name for model in visit.pipeline.catalog.models]
    return {
        "endpoints": [(name, told) for name, told in _ENDPOINT_NAMES.items() if name in ENDPOINTS | endpoints],
        "models": [(name, name) for name in (*names, *sorted(models - {*names}))],
        "expiries": _EXPIRIES,
        "periods": _PERIODS,
    }


def _named(visit: Visit) -> dict[str, Any]:
    """The options that the form names, as commands take them. No endpoint or model ticked means all."""
    form = visit.form
    named: dict[str, Any] = {
        "endpoints": [one for one in form.all("endpoints") if one],
        "models": [one for one in form.all("models") if one],
        "cap": f"{form['cap'].removeprefix('$')}/{form['period'] or 'month'}" if form["cap"] else None,
    }
    named |= {name: form[name] or "0" for name in _LIMITS}
    if "expires" in form and form["expires"] != "keep":
        named["expires"] = form["expires"] or None
    return named


def _typed(visit: Visit) -> dict[str, Any]:
    """What was typed, for the form that is shown again."""
    texts = {name: visit.form[name] for name in ("name", "cap", "period", "expires", *_LIMITS)}
    return texts | {"endpoints": visit.form.all("endpoints"), "models": visit.form.all("models")}


def _typed_new(visit: Visit, typed: dict[str, Any]) -> dict[str, Any]:
    nothing = {
        "name": visit.query("name"),
        "cap": "",
        "period": "month",
        "expires": "90d",
        "endpoints": [],
        "models": [],
    }
    return nothing | dict.fromkeys(_LIMITS, "") | typed


def _typed_of(key: ApiKey) -> dict[str, Any]:
    limit = key.limit or NO_LIMIT
    limits = {name: str(getattr(limit, name) or "") for name in _LIMITS}
    cap = "" if key.cap is None else _dollars(key.cap.ticks)
    period = "month" if key.cap is None else key.cap.period
    chosen = {"endpoints": sorted(key.endpoints), "models": sorted(key.models)}
    return {"name": key.name, "cap": cap, "period": period, "expires": "keep"} | limits | chosen


def _dollars(ticks: int) -> str:
    """A cap as it is typed: it has four decimals at most."""
    whole, rest = divmod(ticks, TICKS_PER_USD)
    return f"{whole}.{rest * 10_000 // TICKS_PER_USD:04d}".rstrip("0").rstrip(".")


def _field(error: InvalidRequest) -> str:
    return error.param or "name"


def _found(visit: Visit) -> ApiKey:
    """The organisation's key that the path names, or NotFound."""
    key = visit.instance.keys.find_by_id(visit.request.path_params["key"])
    if key is None or key.organisation_id != visit.organisation_id:
        raise NotFound("There is no such key.")
    return key


def _alive(visit: Visit) -> ApiKey:
    key = _found(visit)
    if key.revoked_at is not None:
        raise InvalidRequest(f"{key.name} was revoked, for good. Create a new key.")
    return key


def _in_use(visit: Visit, key: ApiKey) -> bool:
    last_used = visit.instance.keys.last_used_at(key.id)
    return last_used is not None and visit.instance.keys.clock() - last_used < MICROSECONDS_PER_DAY


def _model_for(visit: Visit, key: ApiKey) -> str:
    """One that the key may ask, for the example."""
    return visit.model if not key.models or visit.model in key.models or key.models == NONE else min(key.models)


def _show_once(visit: Visit, key: ApiKey, text: str) -> Response:
    visit.cookies.keep(_SECRET, msgspec.json.encode([key.id, text]), _SECRET_SECONDS)
    return visit.redirect(f"/keys/{quote(key.id)}/secret")
