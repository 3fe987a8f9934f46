"""API keys: `ll_<8 public>_<32 secret><6 checksum>`. Stored as keyed hashes, looked up in memory.

A change is committed first and then remembered, so it holds from the next request on and outlives a crash.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from leadline.accounts.actor import Actor
from leadline.accounts.api_key import (
    PLAYGROUND,
    ApiKey,
    KeyOptions,
    fields_of,
    key_of,
    option_values,
    with_options,
)
from leadline.accounts.audit_log import Fields, audited, differences
from leadline.accounts.key_texts import LONGEST_KEY, new_key_text, new_public_id
from leadline.clock import Clock, now_microseconds, rfc3339
from leadline.errors import NotFound, Unauthenticated
from leadline.storage.database import Conflict, Database, Write

_INCORRECT = "Incorrect API key. Check it, or create a new one."


class _Secret(NamedTuple):
    """What a digest opens, and until when; None: for good."""

    key: ApiKey
    opens_until: int | None


class Leaving(NamedTuple):
    """What has to be written with the end of a membership, and to be remembered once it is."""

    writes: tuple[Write, ...]
    remember: Callable[[], None]


class KeyUse(NamedTuple):
    """When a key was used, in microseconds, and from which address; nothing where that is not known."""

    at: int
    address: str


class ApiKeys:
    """All keys, by the digests of their secrets. `pepper` is the instance's own secret for hashing them. Those of
    playgrounds are in no list, and are found as callers alone."""

    def __init__(self, database: Database, pepper: bytes, clock: Clock = now_microseconds) -> None:
        self.clock = clock
        self._database = database
        # Keyed once: a copy costs half of what keying does.
        self._keyed_hash = blake2b(key=pepper, person=b"api-key").copy
        self._secrets: dict[bytes, _Secret] = {}
        self._by_id: dict[str, ApiKey] = {}
        self._digests: dict[str, tuple[bytes, bytes | None]] = {}
        self._ids: dict[str, set[str]] = {}
        # By organisation and user.
        self._playgrounds: dict[tuple[str, str], str] = {}
        self._making_playground = asyncio.Lock()
        self._last_used: dict[str, KeyUse] = {}
        self._unwritten: dict[str, KeyUse] = {}
        self._commits: set[asyncio.Task[ApiKey]] = set()

    async def load(self) -> None:
        rows = await self._database.rows(
            "SELECT digest, previous_digest, last_used_at, last_used_address, modified_at, created_by, purpose,"
            " id, organisation_id, name, last_four, created_at, disabled_at, revoked_at, expires_at, endpoints, models,"
            " cap_ticks, cap_period, requests_per_second, requests_per_minute, tokens_per_minute, concurrent_requests,"
            " previous_expires_at FROM api_keys"
        )
        for digest, previous_digest, used_at, used_from, modified_at, created_by, purpose, *row in rows:
            previous = bytes.fromhex(previous_digest) if previous_digest is not None else None
            key = key_of(row)
            key = replace(key, modified_at=modified_at or key.created_at, created_by=created_by, purpose=purpose)
            self._add(key, bytes.fromhex(digest), previous)
            if used_at is not None:
                self._last_used[key.id] = KeyUse(used_at, used_from)

    def authenticate(self, presented: str | None) -> ApiKey:
        """The key that was presented, or Unauthenticated. No part of it appears in the error."""
        if presented is None:
            raise Unauthenticated
        secret = self._secrets.get(self._digest(presented)) if len(presented) <= LONGEST_KEY else None
        if secret is None:
            raise Unauthenticated(_INCORRECT)
        if secret.opens_until is not None and (now := self.clock()) >= secret.opens_until:
            raise Unauthenticated(_why_not(secret.key, now))
        return secret.key

    def identify(self, presented: str | None) -> ApiKey:
        """The key that was presented, also where it is disabled or has expired; Unauthenticated where it was revoked or
        is none of ours."""
        if presented is None:
            raise Unauthenticated
        secret = self._secrets.get(self._digest(presented)) if len(presented) <= LONGEST_KEY else None
        if secret is None or secret.key.revoked_at is not None:
            raise Unauthenticated(_INCORRECT)
        return secret.key

    def active(self, key_id: str) -> ApiKey:
        """The key of this public id, or Unauthenticated where it may not be used now."""
        key = self._by_id.get(key_id)
        state = "revoked" if key is None else key.state(self.clock())
        if key is None or state != "active":
            raise Unauthenticated(f"The API key of this request is {state}.")
        return key

    async def create(self, organisation_id: str, options: KeyOptions | str, actor: Actor) -> tuple[ApiKey, str]:
        """A new key and its text, which is never to be had again. A name alone: a key that may do everything."""
        if isinstance(options, str):
            options = KeyOptions(options)
        public_id = new_public_id()
        text = new_key_text("ll", public_id)
        now = self.clock()
        bare = ApiKey(
            public_id, organisation_id, options.name, text[-4:], now, modified_at=now, created_by=actor.user_id
        )
        key = with_options(bare, options)
        return await self._insert(key, self._digest(text), actor, fields_of(key)), text

    async def playground(self, organisation_id: str, actor: Actor) -> ApiKey:
        """The key by which the user `actor` asks in the console, made with its first use. Its digest is that of no
        secret."""
        async with self._making_playground:
            key = self._playground(organisation_id, actor.user_id)
            if key is not None:
                return key
            now = self.clock()
            made = ApiKey(new_public_id(), organisation_id, PLAYGROUND, "", now)
            made = replace(made, modified_at=now, created_by=actor.user_id, purpose="playground")
            digest = secrets.token_bytes(self._keyed_hash().digest_size)
            return await self._insert(made, digest, actor, {"name": PLAYGROUND, "purpose": "playground"})

    def leaving(self, organisation_id: str, user_id: str) -> Leaving:
        """The end of a membership ends its playground."""
        now = self.clock()
        write = Write(
            "UPDATE api_keys SET revoked_at = $1, modified_at = $1 WHERE organisation_id = $2 AND created_by = $3"
            " AND purpose = 'playground' AND revoked_at IS NULL",
            (now, organisation_id, user_id),
            rows=None,
        )

        def remember() -> None:
            key = self._playground(organisation_id, user_id)
            if key is not None:
                self._remember(replace(key, revoked_at=now, modified_at=now))

        return Leaving((write,), remember)

    def _playground(self, organisation_id: str, user_id: str) -> ApiKey | None:
        key = self._by_id.get(self._playgrounds.get((organisation_id, user_id), ""))
        return key if key is not None and key.revoked_at is None else None

    async def _insert(self, key: ApiKey, digest: bytes, actor: Actor, told: Fields) -> ApiKey:
        write = Write(
            "INSERT INTO api_keys (id, organisation_id, digest, last_four, created_at, name, expires_at, endpoints,"
            " models, cap_ticks, cap_period, requests_per_second, requests_per_minute, tokens_per_minute,"
            " concurrent_requests, modified_at, created_by, purpose)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
            (
                *(key.id, key.organisation_id, digest.hex(), key.last_four, key.created_at),
                *(*option_values(key.options), key.modified_at, key.created_by, key.purpose),
            ),
        )
        row = self._audited(actor, "keys create", key, ({}, told))
        return await self._commit((write, row), lambda: self._add(key, digest, None))

    async def change(self, key: ApiKey, options: KeyOptions, actor: Actor) -> ApiKey:
        """Put `options` in the place of the key's own."""
        write = Write(
            "UPDATE api_keys SET name = $1, expires_at = $2, endpoints = $3, models = $4, cap_ticks = $5,"
            " cap_period = $6, requests_per_second = $7, requests_per_minute = $8, tokens_per_minute = $9,"
            " concurrent_requests = $10, modified_at = $11 WHERE id = $12",
            (*option_values(options), now := self.clock(), key.id),
        )
        changes = differences(fields_of(self._by_id[key.id]), fields_of(with_options(key, options)))
        writes = write, self._audited(actor, "keys change", key, changes)
        return await self._change(key, writes, lambda known: with_options(replace(known, modified_at=now), options))

    async def rotate(self, key: ApiKey, overlap_microseconds: int, actor: Actor) -> tuple[ApiKey, str]:
        """The key with a new secret, and its text. The present secret works until the overlap ends, an older one stops
        at once."""
        text, now = new_key_text("ll", key.id), self.clock()
        stops_at = now + overlap_microseconds
        digest, last_four = self._digest(text), text[-4:]

        def remember() -> ApiKey:
            known, (present, oldest) = self._by_id[key.id], self._digests[key.id]
            if oldest is not None:
                del self._secrets[oldest]
            self._digests[key.id] = (digest, present)
            rotated = replace(known, last_four=last_four, previous_expires_at=stops_at, modified_at=now)
            return self._remember(rotated)

        write = Write(
            "UPDATE api_keys SET previous_digest = digest, previous_expires_at = $1, digest = $2, last_four = $3,"
            " modified_at = $4 WHERE id = $5",
            (stops_at, digest.hex(), last_four, now, key.id),
        )
        changes = {"last_four": key.last_four}, {"last_four": last_four, "previous_expires_at": rfc3339(stops_at)}
        return await self._commit((write, self._audited(actor, "keys rotate", key, changes)), remember), text

    async def disable(self, key: ApiKey, actor: Actor) -> ApiKey:
        """Until it is enabled. A second time changes nothing."""
        now = self.clock()
        write = Write(
            "UPDATE api_keys SET disabled_at = $1, modified_at = $1 WHERE id = $2 AND disabled_at IS NULL",
            (now, key.id),
        )
        writes = write, self._audited(actor, "keys disable", key, ({"disabled": False}, {"disabled": True}))
        return await self._change_once(key, writes, lambda known: replace(known, disabled_at=now, modified_at=now))

    async def enable(self, key: ApiKey, actor: Actor) -> ApiKey:
        """A second time changes nothing."""
        now = self.clock()
        write = Write(
            "UPDATE api_keys SET disabled_at = NULL, modified_at = $1 WHERE id = $2 AND disabled_at IS NOT NULL",
            (now, key.id),
        )
        writes = write, self._audited(actor, "keys enable", key, ({"disabled": True}, {"disabled": False}))
        return await self._change_once(key, writes, lambda known: replace(known, disabled_at=None, modified_at=now))

    async def revoke(self, key: ApiKey, actor: Actor) -> ApiKey:
        """For good: a revoked key cannot be enabled. A second time changes nothing."""
        now = self.clock()
        write = Write(
            "UPDATE api_keys SET revoked_at = $1, modified_at = $1 WHERE id = $2 AND revoked_at IS NULL",
            (now, key.id),
        )
        writes = write, self._audited(actor, "keys revoke", key, ({"revoked": False}, {"revoked": True}))
        return await self._change_once(key, writes, lambda known: replace(known, revoked_at=now, modified_at=now))

    def find_by_id(self, key_id: str) -> ApiKey | None:
        key = self._by_id.get(key_id)
        return key if key is not None and not key.purpose else None

    def find_caller(self, key_id: str) -> ApiKey | None:
        """The key of a request that was made: an API key, or somebody's playground."""
        return self._by_id.get(key_id)

    def names(self, organisation_id: str) -> dict[str, str]:
        """By the ids of all that ever made a request, playgrounds among them."""
        return {key_id: self._by_id[key_id].name for key_id in self._ids.get(organisation_id, ())}

    def of(self, organisation_id: str) -> list[ApiKey]:
        """The organisation's keys, oldest first."""
        keys = [self._by_id[key_id] for key_id in self._ids.get(organisation_id, ())]
        keys = [key for key in keys if not key.purpose]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    def find(self, organisation_id: str, name_or_id: str) -> ApiKey:
        """By public id, else by name: the newest of that name that is not revoked."""
        by_id = self.find_by_id(name_or_id)
        if by_id is not None and by_id.organisation_id == organisation_id:
            return by_id
        by_name = [key for key in self.of(organisation_id) if key.name == name_or_id]
        found = [key for key in by_name if key.revoked_at is None] or by_name
        if not found:
            raise NotFound(f"There is no API key named {name_or_id!r}. `leadline keys list` shows them.")
        return found[-1]

    def touch(self, key_id: str, now: int, address: str = "") -> None:
        """The key was used. Kept in memory until `write_last_used`."""
        self._last_used[key_id] = self._unwritten[key_id] = KeyUse(now, address)

    def last_use(self, key_id: str) -> "KeyUse | None":
        return self._last_used.get(key_id)

    def last_used_at(self, key_id: str) -> int | None:
        use = self._last_used.get(key_id)
        return None if use is None else use.at

    async def write_last_used(self) -> None:
        """Write when keys were last used, of those that were used since the last time."""
        used, self._unwritten = self._unwritten, {}
        if used:
            sql = "UPDATE api_keys SET last_used_at = $1, last_used_address = $2 WHERE id = $3"
            await self._database.commit(*(Write(sql, (*use, key_id), rows=None) for key_id, use in used.items()))

    async def _change(self, key: ApiKey, writes: Sequence[Write], changed: Callable[[ApiKey], ApiKey]) -> ApiKey:
        """Change the key as it is known after the commit: the caller's copy may be older than another change."""
        return await self._commit(writes, lambda: self._remember(changed(self._by_id[key.id])))

    async def _change_once(self, key: ApiKey, writes: Sequence[Write], changed: Callable[[ApiKey], ApiKey]) -> ApiKey:
        """As `_change`, where the disk may say that it is so already."""
        try:
            return await self._change(key, writes, changed)
        except Conflict:
            return self._by_id[key.id]

    def _audited(self, actor: Actor, action: str, key: ApiKey, changes: tuple[Fields, Fields]) -> Write:
        return audited(self.clock(), actor, action, key.id, changes, key.organisation_id)

    async def _commit(self, writes: Sequence[Write], remember: Callable[[], ApiKey]) -> ApiKey:
        """Commit and remember, as one: where the caller is cancelled meanwhile, both still happen."""

        async def both() -> ApiKey:
            await self._database.commit(*writes)
            return remember()

        commit = asyncio.create_task(both())
        self._commits.add(commit)
        commit.add_done_callback(self._ended)
        return await asyncio.shield(commit)

    def _ended(self, commit: "asyncio.Task[ApiKey]") -> None:
        self._commits.discard(commit)
        # A caller that is still there raises it; where it has gone, nobody else would ask, and asyncio complains.
        if not commit.cancelled():
            commit.exception()

    def _add(self, key: ApiKey, digest: bytes, previous: bytes | None) -> ApiKey:
        self._digests[key.id] = (digest, previous)
        self._ids.setdefault(key.organisation_id, set()).add(key.id)
        if key.purpose == "playground" and key.revoked_at is None:
            self._playgrounds[key.organisation_id, key.created_by] = key.id
        return self._remember(key)

    def _remember(self, key: ApiKey) -> ApiKey:
        """From now on the key is as it is here, and its secrets open it for as long as that says."""
        self._by_id[key.id] = key
        present, previous = self._digests[key.id]
        ends_at = key.expires_at if key.disabled_at is None and key.revoked_at is None else 0
        self._secrets[present] = _Secret(key, ends_at)
        if previous is not None:
            assert key.previous_expires_at is not None
            previous_ends_at = key.previous_expires_at if ends_at is None else min(ends_at, key.previous_expires_at)
            self._secrets[previous] = _Secret(key, previous_ends_at)
        return key

    def _digest(self, text: str) -> bytes:
        keyed = self._keyed_hash()
        keyed.update(text.encode("utf-8", "surrogatepass"))
        return keyed.digest()


def _why_not(key: ApiKey, now: int) -> str:
    """Why a secret that we know does not open its key."""
    match key.state(now):
        case "revoked":
            return _INCORRECT
        case "disabled":
            return f"The API key “{key.name}” is disabled. Enable it, or use another."
        case "expired":
            assert key.expires_at is not None
            expired = f"The API key “{key.name}” expired on {_date(key.expires_at)}."
            return f"{expired} Create a new one, or use another."
        case "active":
            assert key.previous_expires_at is not None
            stopped = f"This secret of the API key “{key.name}” stopped working on {_date(key.previous_expires_at)}"
            return f"{stopped}, after a rotation. Use the new one."


def _date(microseconds: int) -> str:
    return rfc3339(microseconds)[: len("2027-03-31")]
