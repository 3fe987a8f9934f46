"""Management keys: `llm_<8 public>_<32 secret><6 checksum>`. They open the management API and nothing else.

Stored as keyed hashes and looked up in memory, as API keys are: a change is committed first and then remembered.
"""

import asyncio
import ipaddress
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any

from leadline.accounts.actor import Actor
from leadline.accounts.api_key import State, state_at
from leadline.accounts.audit_log import Fields, audited
from leadline.accounts.key_texts import LONGEST_KEY, new_key_text, new_public_id
from leadline.clock import Clock, now_microseconds, rfc3339
from leadline.errors import InvalidRequest, NotFound, PermissionDenied, Unauthenticated
from leadline.storage.database import Conflict, Database, Write

# What the management API does, by the names that ACLs use. Some clients know these names from elsewhere.
OPERATIONS = (
    *("CreateApiKey", "ListApiKeys", "UpdateApiKey", "RotateApiKey", "DeleteApiKey", "CheckApiKeyPropagation"),
    *("ListEndpoints", "ListModels", "GetBillingInfo", "SetBillingInfo", "ListInvoices", "ListPaymentMethods"),
    *("SetDefaultPaymentMethod", "GetAmountToPay", "GetSpendingLimits", "SetSoftSpendingLimit"),
    *("ListPrepaidBalanceChanges", "TopUpOrGetExistingPendingChange", "AnalyzeBillingItems", "ListAuditEvents"),
)
ACL_PREFIX = "team-token:endpoint:"
EVERYTHING = f"{ACL_PREFIX}*"
_ACLS = {EVERYTHING} | {ACL_PREFIX + operation for operation in OPERATIONS}
_INCORRECT = "Incorrect management key. Check it, or create a new one."
_MOST_RANGES = 100


@dataclass(frozen=True, slots=True)
class ManagementKeyOptions:
    """What an organisation decides about a management key. Without `acls` it may do nothing; without `ip_ranges` it may
    come from anywhere. `expires_at` is in microseconds. InvalidRequest where an ACL or a range is none."""

    name: str
    acls: frozenset[str] = frozenset()
    ip_ranges: tuple[str, ...] = ()
    expires_at: int | None = None

    def __post_init__(self) -> None:
        for acl in sorted(self.acls):
            if acl not in _ACLS:
                raise InvalidRequest(
                    f"There is no ACL {acl[:100]!r}. Write {EVERYTHING}, or {ACL_PREFIX} and one of"
                    f" {', '.join(OPERATIONS)}.",
                    "acls",
                )
        if len(self.ip_ranges) > _MOST_RANGES:
            raise InvalidRequest(f"A management key takes {_MOST_RANGES} ranges of addresses at most.", "ip_ranges")
        for one in self.ip_ranges:
            _network(one)


@dataclass(frozen=True, slots=True)
class ManagementKey:
    """A management key without its secret. Times are in microseconds; `owner_id` is the user whose it is."""

    id: str
    organisation_id: str
    owner_id: str
    last_four: str
    name: str
    acls: frozenset[str]
    ip_ranges: tuple[str, ...]
    created_at: int
    modified_at: int
    expires_at: int | None = None
    disabled_at: int | None = None
    revoked_at: int | None = None

    def state(self, now: int) -> State:
        return state_at(now, self.revoked_at, self.disabled_at, self.expires_at)

    @property
    def redacted(self) -> str:
        return f"llm_{self.id}…{self.last_four}"

    def permits(self, operation: str) -> bool:
        return EVERYTHING in self.acls or ACL_PREFIX + operation in self.acls

    def may_come_from(self, address: str) -> bool:
        """Whether an address is in one of its ranges, if it has any."""
        if not self.ip_ranges:
            return True
        try:
            ip = ipaddress.ip_address(address)
        except ValueError:
            return False
        # An IPv4 client of a socket for both families is the same client.
        mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
        return any((mapped or ip) in _network(one) for one in self.ip_ranges)


class ManagementKeys:
    """All management keys, by the digests of their secrets. `pepper` is the instance's own secret for hashing them."""

    def __init__(self, database: Database, pepper: bytes, clock: Clock = now_microseconds) -> None:
        self.clock = clock
        self._database = database
        # Another person than that of API keys: equal texts would still have other digests.
        self._keyed_hash = blake2b(key=pepper, person=b"management-key").copy
        self._by_digest: dict[bytes, str] = {}
        self._by_id: dict[str, ManagementKey] = {}
        self._last_used: dict[str, int] = {}
        self._unwritten: dict[str, int] = {}
        self._commits: set[asyncio.Task[None]] = set()

    async def load(self) -> None:
        rows = await self._database.rows(
            "SELECT digest, last_used_at, id, organisation_id, owner_id, last_four, name, acls, ip_ranges, created_at,"
            " modified_at, expires_at, disabled_at, revoked_at FROM management_keys"
        )
        for digest, last_used_at, *row in rows:
            key = _key_of(row)
            self._by_digest[bytes.fromhex(digest)] = key.id
            self._by_id[key.id] = key
            if last_used_at is not None:
                self._last_used[key.id] = last_used_at

    def authenticate(self, presented: str | None, address: str) -> ManagementKey:
        """The key that was presented, or Unauthenticated; PermissionDenied where it may not come from there. No part of
        it appears in the error."""
        if presented is None:
            raise Unauthenticated("No management key was presented. Send it as `Authorization: Bearer <key>`.")
        key_id = self._by_digest.get(self._digest(presented)) if len(presented) <= LONGEST_KEY else None
        if key_id is None:
            if presented.startswith("ll_"):
                raise Unauthenticated("That is no management key. An API key opens nothing of the management API.")
            raise Unauthenticated(_INCORRECT)
        key = self._by_id[key_id]
        match key.state(self.clock()):
            case "revoked":
                raise Unauthenticated(_INCORRECT)
            case "disabled":
                raise Unauthenticated(f"The management key “{key.name}” is disabled. Enable it, or use another.")
            case "expired":
                raise Unauthenticated(f"The management key “{key.name}” has expired. Create a new one, or use another.")
        if not key.may_come_from(address):
            raise PermissionDenied(f"The management key “{key.name}” may not be used from this address.")
        return key

    async def create(
        self, organisation_id: str, owner_id: str, options: ManagementKeyOptions, actor: Actor
    ) -> tuple[ManagementKey, str]:
        """A new key and its text, which is never to be had again."""
        public_id, now = new_public_id(), self.clock()
        text = new_key_text("llm", public_id)
        name, acls, ranges = options.name, options.acls, options.ip_ranges
        key = ManagementKey(
            *(public_id, organisation_id, owner_id, text[-4:], name, acls, ranges, now, now, options.expires_at)
        )
        digest = self._digest(text)
        write = Write(
            "INSERT INTO management_keys (id, organisation_id, owner_id, digest, last_four, name, acls, ip_ranges,"
            " created_at, modified_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10)",
            (
                *(key.id, organisation_id, owner_id, digest.hex(), key.last_four, name, _json(sorted(acls))),
                *(_json(ranges), now, key.expires_at),
            ),
        )

        def remember() -> None:
            self._by_id[key.id] = key
            self._by_digest[digest] = key.id

        row = self._audited(actor, "management-keys create", key, ({}, _fields(key)))
        await self._commit((write, row), remember)
        return key, text

    async def disable(self, key: ManagementKey, actor: Actor) -> ManagementKey:
        """Until it is enabled. A second time changes nothing."""
        now = self.clock()
        write = Write(
            "UPDATE management_keys SET disabled_at = $1, modified_at = $1 WHERE id = $2 AND disabled_at IS NULL",
            (now, key.id),
        )
        row = self._audited(actor, "management-keys disable", key, ({"disabled": False}, {"disabled": True}))
        return await self._change(key, (write, row), lambda old: replace(old, disabled_at=now, modified_at=now))

    async def enable(self, key: ManagementKey, actor: Actor) -> ManagementKey:
        """A second time changes nothing."""
        now = self.clock()
        write = Write(
            "UPDATE management_keys SET disabled_at = NULL, modified_at = $1 WHERE id = $2 AND disabled_at IS NOT NULL",
            (now, key.id),
        )
        row = self._audited(actor, "management-keys enable", key, ({"disabled": True}, {"disabled": False}))
        return await self._change(key, (write, row), lambda old: replace(old, disabled_at=None, modified_at=now))

    async def revoke(self, key: ManagementKey, actor: Actor) -> ManagementKey:
        """For good. A second time changes nothing."""
        now = self.clock()
        write = Write(
            "UPDATE management_keys SET revoked_at = $1, modified_at = $1 WHERE id = $2 AND revoked_at IS NULL",
            (now, key.id),
        )
        row = self._audited(actor, "management-keys revoke", key, ({"revoked": False}, {"revoked": True}))
        return await self._change(key, (write, row), lambda old: replace(old, revoked_at=now, modified_at=now))

    def of(self, organisation_id: str) -> list[ManagementKey]:
        """The organisation's keys, oldest first."""
        keys = [key for key in self._by_id.values() if key.organisation_id == organisation_id]
        return sorted(keys, key=lambda key: (key.created_at, key.id))

    def find(self, organisation_id: str, name_or_id: str) -> ManagementKey:
        """By public id, else by name: the newest of that name that is not revoked."""
        keys = self.of(organisation_id)
        by_name = [key for key in keys if key.name == name_or_id]
        alive = [key for key in by_name if key.revoked_at is None]
        found = [key for key in keys if key.id == name_or_id] or alive or by_name
        if not found:
            raise NotFound(
                f"There is no management key named {name_or_id[:200]!r}. `leadline management-keys list` shows them."
            )
        return found[-1]

    def touch(self, key: ManagementKey) -> None:
        """The key was used. Kept in memory until `write_last_used`."""
        self._last_used[key.id] = self._unwritten[key.id] = self.clock()

    def last_used_at(self, key_id: str) -> int | None:
        return self._last_used.get(key_id)

    async def write_last_used(self) -> None:
        """Write when keys were last used, of those that were used since the last time."""
        used, self._unwritten = self._unwritten, {}
        if used:
            sql = "UPDATE management_keys SET last_used_at = $1 WHERE id = $2"
            await self._database.commit(*(Write(sql, (at, key_id), rows=None) for key_id, at in used.items()))

    async def _change(
        self, key: ManagementKey, writes: Sequence[Write], changed: Callable[[ManagementKey], ManagementKey]
    ) -> ManagementKey:
        def remember() -> None:
            self._by_id[key.id] = changed(self._by_id[key.id])

        # A conflict: it is so already.
        with suppress(Conflict):
            await self._commit(writes, remember)
        return self._by_id[key.id]

    async def _commit(self, writes: Sequence[Write], remember: Callable[[], None]) -> None:
        """Commit and remember, as one: where the caller is cancelled meanwhile, both still happen."""

        async def both() -> None:
            await self._database.commit(*writes)
            remember()

        commit = asyncio.create_task(both())
        self._commits.add(commit)
        commit.add_done_callback(self._ended)
        await asyncio.shield(commit)

    def _ended(self, commit: "asyncio.Task[None]") -> None:
        self._commits.discard(commit)
        # A caller that is still there raises it; where it has gone, nobody else would ask, and asyncio complains.
        if not commit.cancelled():
            commit.exception()

    def _audited(self, actor: Actor, action: str, key: ManagementKey, changes: tuple[Fields, Fields]) -> Write:
        return audited(self.clock(), actor, action, key.id, changes, key.organisation_id)

    def _digest(self, text: str) -> bytes:
        keyed = self._keyed_hash()
        keyed.update(text.encode("utf-8", "surrogatepass"))
        return keyed.digest()


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise InvalidRequest(
            f"{text[:100]!r} is no range of addresses. Write one such as 203.0.113.0/24 or 2001:db8::/32.", "ip_ranges"
        ) from None


def _fields(key: ManagementKey) -> Fields:
    return {
        "name": key.name,
        "acls": ", ".join(sorted(key.acls)) or "none",
        "ip_ranges": ", ".join(key.ip_ranges) or "all",
        "expires_at": rfc3339(key.expires_at) if key.expires_at is not None else None,
        "owner": key.owner_id,
    }


def _json(values: Sequence[str]) -> str:
    return json.dumps(list(values))


def _key_of(row: Sequence[Any]) -> ManagementKey:
    """From columns in the order of ManagementKey's fields."""
    key_id, organisation_id, owner_id, last_four, name, acls, ranges, *times = row
    return ManagementKey(
        *(key_id, organisation_id, owner_id, last_four, name, frozenset(json.loads(acls)), tuple(json.loads(ranges))),
        *times,
    )
