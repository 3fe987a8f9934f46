"""API keys: `ll_<8 public><_><32 secret><6 checksum>`. Stored as a keyed hash, looked up in memory."""

import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b

from leadline.errors import NotFound, Unauthenticated
from leadline.storage.database import Database, Row, Write

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LONGEST_KEY = 256


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. Times are in microseconds."""

    id: str
    organisation_id: str
    name: str
    last_four: str
    created_at: int
    disabled_at: int | None = None
    revoked_at: int | None = None

    @property
    def state(self) -> str:
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.disabled_at is None else "disabled"

    @property
    def redacted(self) -> str:
        return f"ll_{self.id}…{self.last_four}"


class ApiKeys:
    """All keys by digest. `pepper` is the instance's own secret for hashing them."""

    def __init__(self, database: Database, pepper: bytes) -> None:
        self._database = database
        self._pepper = pepper
        self._by_digest: dict[str, ApiKey] = {}

    async def load(self) -> None:
        rows = await self._database.rows(
            "SELECT digest, id, organisation_id, name, last_four, created_at, disabled_at, revoked_at FROM api_keys"
        )
        self._by_digest = {digest: _key_of(row) for digest, *row in rows}

    def authenticate(self, presented: str | None) -> ApiKey:
        """The key that was presented, or Unauthenticated. No part of it appears in the error."""
        if presented is None:
            raise Unauthenticated
        key = self._by_digest.get(self._digest(presented)) if len(presented) <= _LONGEST_KEY else None
        if key is None or key.revoked_at is not None:
            raise Unauthenticated("Incorrect API key. Check it, or create a new one on the API Keys page.")
        if key.disabled_at is not None:
            raise Unauthenticated(
                f"The API key “{key.name}” is disabled. Enable it on the API Keys page, or use another."
            )
        return key

    async def create(self, organisation_id: str, name: str) -> tuple[ApiKey, str]:
        """A new key and its text, which is never to be had again."""
        public_id, text = _new_key()
        key = ApiKey(public_id, organisation_id, name, text[-4:], time.time_ns() // 1000)
        digest = self._digest(text)
        await self._database.commit(
            Write(
                "INSERT INTO api_keys (id, organisation_id, name, digest, last_four, created_at)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                (key.id, organisation_id, name, digest, key.last_four, key.created_at),
            )
        )
        self._by_digest[digest] = key
        return key, text

    def of(self, organisation_id: str) -> list[ApiKey]:
        """The organisation's keys, oldest first."""
        keys = [key for key in self._by_digest.values() if key.organisation_id == organisation_id]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    def find(self, organisation_id: str, name_or_id: str) -> ApiKey:
        """By public id, else by name: the newest of that name that is not revoked."""
        keys = self.of(organisation_id)
        by_id = [key for key in keys if key.id == name_or_id]
        by_name = [key for key in keys if key.name == name_or_id]
        found = by_id or [key for key in by_name if key.revoked_at is None] or by_name
        if not found:
            raise NotFound(f"There is no API key named {name_or_id!r}. `leadline keys list` shows them.")
        return found[-1]

    async def disable(self, key: ApiKey) -> ApiKey:
        return await self._disabled(key, key.disabled_at or time.time_ns() // 1000)

    async def enable(self, key: ApiKey) -> ApiKey:
        return await self._disabled(key, None)

    async def revoke(self, key: ApiKey) -> ApiKey:
        """For good: a revoked key cannot be enabled."""
        revoked_at = key.revoked_at or time.time_ns() // 1000
        await self._database.commit(Write("UPDATE api_keys SET revoked_at = $1 WHERE id = $2", (revoked_at, key.id)))
        return self._remember(key, lambda known: replace(known, revoked_at=revoked_at))

    async def _disabled(self, key: ApiKey, disabled_at: int | None) -> ApiKey:
        await self._database.commit(Write("UPDATE api_keys SET disabled_at = $1 WHERE id = $2", (disabled_at, key.id)))
        return self._remember(key, lambda known: replace(known, disabled_at=disabled_at))

    def _remember(self, key: ApiKey, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        """Change the key as it is now: the caller's copy may be older than another change."""
        digest, known = next(pair for pair in self._by_digest.items() if pair[1].id == key.id)
        self._by_digest[digest] = changed = change(known)
        return changed

    def _digest(self, text: str) -> str:
        return blake2b(text.encode("utf-8", "surrogateescape"), key=self._pepper, person=b"api-key").hexdigest()


def _new_key() -> tuple[str, str]:
    public_id = "".join(secrets.choice(_ALPHABET) for _ in range(8))
    body = f"ll_{public_id}_" + "".join(secrets.choice(_ALPHABET) for _ in range(32))
    return public_id, body + checksum(body)


def checksum(body: str) -> str:
    """CRC-32 of `body` as six base62 digits, so that a mistyped or cut key can be told from a wrong one."""
    rest, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(6):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _key_of(row: list[Row]) -> ApiKey:
    return ApiKey(*row)  # type: ignore[arg-type]
