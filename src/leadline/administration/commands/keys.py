"""API keys. Options come as somebody wrote them, such as a cap of `20/month`; here they get their meaning."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from msgspec.structs import asdict

from leadline.accounts.actor import Actor
from leadline.accounts.api_key import NO_LIMIT, ApiKey, KeyOptions
from leadline.administration.commands import dates
from leadline.administration.commands.command import Command, Result, dollars
from leadline.administration.instance import Instance
from leadline.clock import MICROSECONDS_PER_DAY, duration, rfc3339
from leadline.config import Limit
from leadline.errors import InvalidRequest, PermissionDenied
from leadline.money import TICKS_PER_USD, SpendCap

Options = Mapping[str, Any]

LONGEST_OVERLAP = 7 * MICROSECONDS_PER_DAY
_LONGEST_MODEL_NAME = 200


async def create_key(
    instance: Instance, actor: Actor, name: str, email: str | None, options: Options | None = None
) -> Result:
    """`options` are those of `change_key`; what is not among them stays open."""
    organisation = await instance.organisations.of_email(email)
    chosen = chosen_options(KeyOptions(key_name(name)), options or {}, instance.keys.clock())
    key, text = await instance.keys.create(organisation.id, chosen, actor)
    return _key(instance, key) | {"api_key": text}


async def list_keys(instance: Instance, email: str | None) -> Result:
    organisation = await instance.organisations.of_email(email)
    return {"keys": [_key(instance, key) for key in instance.keys.of(organisation.id)]}


async def show_key(instance: Instance, key: str, email: str | None) -> Result:
    return _key(instance, await _find(instance, key, email))


async def change_key(instance: Instance, actor: Actor, key: str, email: str | None, options: Options) -> Result:
    """Only what `options` name changes: `name`, `endpoints` and `models` (lists; empty: all), `cap` (`20/month`),
    `expires` (`90d` or a date), each None for none, and the limits by the names of Limit's fields (0: none)."""
    found = await _find_alive(instance, key, email)
    chosen = chosen_options(found.options, options, instance.keys.clock())
    return _key(instance, await instance.keys.change(found, chosen, actor))


async def disable_key(instance: Instance, actor: Actor, key: str, email: str | None) -> Result:
    return _key(instance, await instance.keys.disable(await _find(instance, key, email), actor))


async def enable_key(instance: Instance, actor: Actor, key: str, email: str | None) -> Result:
    return _key(instance, await instance.keys.enable(await _find_alive(instance, key, email), actor))


async def rotate_key(instance: Instance, actor: Actor, key: str, email: str | None, overlap: str) -> Result:
    """A new secret. The present one works for another `overlap`, such as `24h`."""
    found = await _find_alive(instance, key, email)
    rotated, text = await instance.keys.rotate(found, overlap_of(overlap), actor)
    return _key(instance, rotated) | {"api_key": text}


async def revoke_key(instance: Instance, actor: Actor, key: str, email: str | None) -> Result:
    return _key(instance, await instance.keys.revoke(await _find(instance, key, email), actor))


READS: dict[str, Command] = {
    "keys list": list_keys,
    "keys show": show_key,
}
CHANGES: dict[str, Command] = {
    "keys create": create_key,
    "keys change": change_key,
    "keys disable": disable_key,
    "keys enable": enable_key,
    "keys rotate": rotate_key,
    "keys revoke": revoke_key,
}


def key_name(name: str) -> str:
    """A key's name without the space around it, or InvalidRequest."""
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidRequest("A key's name must have 1 to 100 printable characters.", "name")
    return name


async def _find(instance: Instance, key: str, email: str | None) -> ApiKey:
    organisation = await instance.organisations.of_email(email)
    return instance.keys.find(organisation.id, key)


async def _find_alive(instance: Instance, key: str, email: str | None) -> ApiKey:
    found = await _find(instance, key, email)
    if found.revoked_at is not None:
        raise PermissionDenied(f"{found.name} was revoked, for good. Create a new key.")
    return found


def chosen_options(options: KeyOptions, named: Options, now: int) -> KeyOptions:
    """`options` with what is named in the place of their own."""
    limits = asdict(options.limit or NO_LIMIT)
    for word, value in named.items():
        match word:
            case "name":
                options = replace(options, name=key_name(value))
            case "endpoints":
                options = replace(options, endpoints=frozenset(value))
            case "models":
                options = replace(options, models=_models(value))
            case "cap":
                options = replace(options, cap=_cap(value) if value is not None else None)
            case "expires":
                options = replace(options, expires_at=dates.expiry(value, now) if value is not None else None)
            case _ if word in limits:
                limits[word] = _count(value, word)
            case _:
                raise InvalidRequest(f"An API key has no option {word!r}.", word)
    return replace(options, limit=Limit(**limits))


def _models(names: Sequence[str]) -> frozenset[str]:
    for name in names:
        if not 1 <= len(name) <= _LONGEST_MODEL_NAME or not name.isprintable():
            raise InvalidRequest(f"A model's name has 1 to {_LONGEST_MODEL_NAME} printable characters.", "models")
    return frozenset(names)


def _cap(text: str) -> SpendCap:
    amount, _, period = text.strip().partition("/")
    if re.fullmatch(r"[0-9]+(\.[0-9]{1,4})?", amount) and Decimal(amount) > 0:
        match period:
            case "day" | "week" | "month":
                return SpendCap(dollars(amount), period)
    raise InvalidRequest(
        f"{text!r} is not a cap. Write dollars above zero with four decimals at most, and day, week or month:"
        " 20/month or 0.50/day.",
        "cap",
    )


def overlap_of(text: str) -> int:
    """How long the secret before a rotation works, in microseconds; 7d at most."""
    try:
        overlap = duration(text)
    except ValueError as error:
        raise InvalidRequest(f"{error}.", "overlap") from None
    if overlap > LONGEST_OVERLAP:
        raise InvalidRequest(f"An overlap of {text} is too long. Write 7d at most, or 0s for none.", "overlap")
    return overlap


def _count(text: str, limit: str) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", str(text).strip()):
        name = limit.replace("_", " ")
        raise InvalidRequest(f"{text!r} is not a number of {name}. Write one such as 60, or 0 for no limit.", limit)
    return int(text)


def _key(instance: Instance, key: ApiKey) -> Result:
    return {
        "id": key.id,
        "name": key.name,
        "redacted": key.redacted,
        "state": key.state(instance.keys.clock()),
        "created_at": rfc3339(key.created_at),
        "created_by": key.created_by or None,
        "expires_at": _date(key.expires_at),
        "endpoints": sorted(key.endpoints),
        "models": sorted(key.models),
        "cap": _cap_result(key.cap) if key.cap is not None else None,
        "limits": asdict(key.limit or NO_LIMIT),
        "last_used_at": _date(instance.keys.last_used_at(key.id)),
        "last_used_from": use.address if (use := instance.keys.last_use(key.id)) is not None else "",
        "previous_expires_at": _date(key.previous_expires_at),
    }


def _date(microseconds: int | None) -> str | None:
    return rfc3339(microseconds) if microseconds is not None else None


def _cap_result(cap: SpendCap) -> Result:
    whole, rest = divmod(cap.ticks, TICKS_PER_USD)
    return {"usd": f"{whole}.{rest * 10_000 // TICKS_PER_USD:04d}", "ticks": cap.ticks, "period": cap.period}
