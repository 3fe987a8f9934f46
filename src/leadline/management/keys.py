"""API keys over the management API: the same keys that the console and the command line change."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import msgspec

from leadline.accounts.api_key import NO_LIMIT, ApiKey, KeyOptions, acls_of
from leadline.administration.commands.keys import LONGEST_OVERLAP, key_name
from leadline.clock import MICROSECONDS_PER_DAY
from leadline.config import Limit
from leadline.errors import InvalidRequest, NotFound
from leadline.management.acls import catalogue, permits, scopes_of
from leadline.management.call import Body, Call, Routes, camel_case
from leadline.management.wire import Json, integer_of, time_of, timestamp

_OVERLAP = MICROSECONDS_PER_DAY
_PAGE, _LARGEST_PAGE = 100, 1000
_MOST_PER_MINUTE = 10**12
# The words of requests, and the limits that they set.
_LIMITS = {"qps": "requests_per_second", "qpm": "requests_per_minute", "tpm": "tokens_per_minute"}
_MASKED = frozenset({"name", "acls", "expireTime", "disabled", *_LIMITS})
# As answers call it, in case somebody sends one back.
_SPELLINGS = {"aclStrings": "acls"}


class _Wanted(Body, frozen=True):
    """What a request says of a key. What it does not name stays as it is; null is none."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    acls: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    acl_strings: list[str] | msgspec.UnsetType | None = msgspec.UNSET
    qps: int | str | msgspec.UnsetType | None = msgspec.UNSET
    qpm: int | str | msgspec.UnsetType | None = msgspec.UNSET
    tpm: int | str | msgspec.UnsetType | None = msgspec.UNSET
    expire_time: str | msgspec.UnsetType | None = msgspec.UNSET
    disabled: bool | msgspec.UnsetType | None = msgspec.UNSET

    def named(self) -> Json:
        """What it names, by the words of requests."""
        fields = {camel_case(name): getattr(self, name) for name in self.__struct_fields__}
        return {_SPELLINGS.get(name, name): value for name, value in fields.items() if value is not msgspec.UNSET}


class _Update(Body, frozen=True):
    """The key, and which of its fields count: a list with commas; nothing: those that are there."""

    api_key: _Wanted
    field_mask: str = ""


class _Rotation(Body, frozen=True):
    """When the new secret ends, and when the old one does."""

    expire_time: str | None = None
    old_secret_expire_time: str | None = None


async def create_key(call: Call) -> Json:
    wanted = (await call.body(_Wanted)).named()
    if not wanted.get("name"):
        raise InvalidRequest("name is missing.", "name")
    disabled = wanted.pop("disabled", None)
    # Without ACLs a key may do nothing.
    options = _with(call, KeyOptions(key_name(wanted["name"])), {"acls": None} | wanted)
    key, text = await call.instance.keys.create(call.organisation_id, options, call.actor)
    if disabled:
        key = await call.instance.keys.disable(key, call.actor)
    return await _shown(call, key) | {"apiKey": text}


async def list_keys(call: Call) -> Json:
    keys = [key for key in call.instance.keys.of(call.organisation_id) if key.revoked_at is None]
    if (call.parameter("activeOnly") or "").lower() in ("true", "1"):
        now = call.instance.keys.clock()
        keys = [key for key in keys if key.state(now) == "active"]
    for name, acl in call.query():
        if name == "aclFilters" and acl:
            keys = [key for key in keys if permits(acls_of(key), acl)]
    size = integer_of(call.parameter("pageSize") or _PAGE, "pageSize", _LARGEST_PAGE) or _PAGE
    keys, more = _page(keys, call.parameter("paginationToken"), size)
    user_id = await _first_user(call)
    answer: Json = {"apiKeys": [_key(key, user_id) for key in keys]}
    return answer | {"paginationToken": keys[-1].id} if more else answer


async def update_key(call: Call) -> Json:
    found, body = _find(call), await call.body(_Update)
    wanted = body.api_key.named()
    if mask := [_spelled(part) for part in body.field_mask.split(",") if part.strip()]:
        for word in mask:
            if word not in _MASKED:
                raise InvalidRequest(
                    f"A key has no field {word[:100]!r} that can be changed. Write any of"
                    f" {', '.join(sorted(_MASKED))}.",
                    "fieldMask",
                )
        wanted = {word: wanted.get(word) for word in mask}
    if not wanted:
        raise InvalidRequest("Name a field of the key that changes, in apiKey and fieldMask.", "apiKey")
    disabled = wanted.pop("disabled", found.disabled_at is not None)
    options = _with(call, found.options, wanted, at="apiKey.")
    keys, key = call.instance.keys, found
    if options != found.options:
        key = await keys.change(key, options, call.actor)
    if bool(disabled) != (key.disabled_at is not None):
        key = await (keys.disable if disabled else keys.enable)(key, call.actor)
    return await _shown(call, key)


async def rotate_key(call: Call) -> Json:
    key, body, keys = _find(call), await call.body(_Rotation), call.instance.keys
    now = keys.clock()
    overlap = _OVERLAP
    if body.old_secret_expire_time is not None:
        overlap = max(0, time_of(body.old_secret_expire_time, "oldSecretExpireTime") - now)
        if overlap > LONGEST_OVERLAP:
            raise InvalidRequest("The old secret may work for another 7 days at most.", "oldSecretExpireTime")
    if body.expire_time is not None:
        expires_at = _expiry(call, body.expire_time, "expireTime")
        key = await keys.change(key, replace(key.options, expires_at=expires_at), call.actor)
    key, text = await keys.rotate(key, overlap, call.actor)
    return await _shown(call, key) | {"apiKey": text}


async def delete_key(call: Call) -> Json:
    await call.instance.keys.revoke(_find(call), call.actor)
    return {}


async def show_propagation(call: Call) -> Json:
    """A change is in memory before its answer goes out, and there is one server."""
    _find(call)
    return {"icPropagation": {urlsplit(call.instance.base_url).netloc: True}}


async def list_endpoints(_: Call) -> Json:
    return {"acls": catalogue()}


def _find(call: Call) -> ApiKey:
    """The key that the path names. What another organisation has, and what was deleted, is not there."""
    key = call.instance.keys.find_by_id(call.names["api_key_id"])
    if key is None or key.organisation_id != call.organisation_id or key.revoked_at is not None:
        raise NotFound("There is no API key with this id: it was deleted, or it never was.")
    return key


def _page(keys: list[ApiKey], token: str | None, size: int) -> tuple[list[ApiKey], bool]:
    """The keys behind the one that the token names, and whether there are more of them."""
    if token is not None:
        places = [place for place, key in enumerate(keys) if key.id == token]
        if not places:
            raise InvalidRequest("paginationToken is not one of this list. Begin again without it.", "paginationToken")
        keys = keys[places[0] + 1 :]
    return keys[:size], len(keys) > size


def _spelled(part: str) -> str:
    word = camel_case(part.strip()).removeprefix("apiKey.")
    return _SPELLINGS.get(word, word)


def _with(call: Call, options: KeyOptions, wanted: Json, at: str = "") -> KeyOptions:
    """`options` with what is wanted in the place of their own."""
    limits = msgspec.structs.asdict(options.limit or NO_LIMIT)
    for word, value in wanted.items():
        match word:
            case "name":
                options = replace(options, name=key_name(value or ""))
            case "acls":
                endpoints, models = scopes_of(value or [], f"{at}acls")
                options = replace(options, endpoints=endpoints, models=models)
            case "expireTime":
                expires_at = _expiry(call, value, f"{at}expireTime") if value is not None else None
                options = replace(options, expires_at=expires_at)
            case _:
                limits[_LIMITS[word]] = integer_of(value or 0, f"{at}{word}", _MOST_PER_MINUTE)
    limit = Limit(**limits)
    return replace(options, limit=None if limit == NO_LIMIT else limit)


def _expiry(call: Call, text: str, field: str) -> int:
    expires_at = time_of(text, field)
    if expires_at <= call.instance.keys.clock():
        raise InvalidRequest(f"{field} has passed already.", field)
    return expires_at


async def _first_user(call: Call) -> str:
    return await call.instance.organisations.first_member(call.organisation_id)


async def _shown(call: Call, key: ApiKey) -> Json:
    return _key(key, key.created_by or await _first_user(call))


def _key(key: ApiKey, first_user: str) -> Json:
    """Who made a key is its user; of one that the command line made, the organisation's first."""
    told: Json = {
        "redactedApiKey": key.redacted,
        "userId": key.created_by or first_user,
        "name": key.name,
        "createTime": timestamp(key.created_at),
        "modifyTime": timestamp(key.modified_at),
        "teamId": key.organisation_id,
        "apiKeyId": key.id,
        "disabled": key.disabled_at is not None,
        "aclStrings": acls_of(key),
    }
    if key.expires_at is not None:
        told["expireTime"] = timestamp(key.expires_at)
    limit = key.limit or NO_LIMIT
    limits: dict[str, Any] = {word: getattr(limit, name) for word, name in _LIMITS.items()}
    limits["tpm"] = str(limits["tpm"])
    return told | {word: value for word, value in limits.items() if value not in (0, "0")}


ROUTES: Routes = {
    ("POST", "/auth/teams/{team_id}/api-keys"): ("CreateApiKey", create_key),
    ("GET", "/auth/teams/{team_id}/api-keys"): ("ListApiKeys", list_keys),
    ("PUT", "/auth/api-keys/{api_key_id}"): ("UpdateApiKey", update_key),
    ("DELETE", "/auth/api-keys/{api_key_id}"): ("DeleteApiKey", delete_key),
    ("POST", "/auth/api-keys/{api_key_id}/rotate"): ("RotateApiKey", rotate_key),
    ("GET", "/auth/api-keys/{api_key_id}/propagation"): ("CheckApiKeyPropagation", show_propagation),
    ("GET", "/auth/teams/{team_id}/endpoints"): ("ListEndpoints", list_endpoints),
}
