"""The memory that the embedded engines of one instance share: who may load, and who must go for it."""

from dataclasses import dataclass, field
from typing import Protocol

from leadline.errors import Unavailable

_BUSY_RETRY_SECONDS = 5


class Tenant(Protocol):
    """An engine that takes memory. `unneeded_since` is when its last request ended, in the loop's time; None while it
    may not be unloaded."""

    @property
    def name(self) -> str: ...

    @property
    def unneeded_since(self) -> float | None: ...

    def leave(self) -> None:
        """Begin to unload."""

    async def gone(self) -> None:
        """Wait until it has unloaded."""


@dataclass(slots=True)
class Memory:
    """Claims are estimates of the most that an engine takes, and are made before it loads."""

    budget_bytes: int
    _claims: dict[str, int] = field(default_factory=dict)
    _tenants: dict[str, Tenant] = field(default_factory=dict)

    def fits(self, need_bytes: int) -> bool:
        """Whether it can ever be claimed."""
        return need_bytes <= self.budget_bytes

    def claimed_by(self, name: str) -> int:
        """What the engine of this name has claimed."""
        return self._claims.get(name, 0)

    def claim(self, tenant: Tenant, need_bytes: int) -> list[Tenant]:
        """Take `need_bytes` for `tenant`. The tenants that must go for it begin to unload, those first that were not
        needed for longest; their memory is free once they have gone. Unavailable, and nobody goes, where it would not
        do."""
        if not self.fits(need_bytes):
            raise Unavailable(
                f"The engine {tenant.name} needs {_megabytes(need_bytes)} of memory, more than the "
                f"{_megabytes(self.budget_bytes)} that all embedded engines may take."
            )
        free_bytes = self.budget_bytes - sum(self._claims.values())
        unneeded = [(since, one) for one in self._tenants.values() if (since := one.unneeded_since) is not None]
        leaving: list[Tenant] = []
        for _, other in sorted(unneeded, key=lambda pair: pair[0]):
            if free_bytes >= need_bytes:
                break
            leaving.append(other)
            free_bytes += self._claims[other.name]
        if free_bytes < need_bytes:
            raise _Full(
                f"The engine {tenant.name} needs {_megabytes(need_bytes)} of memory; what is loaded instead is in "
                f"use: {', '.join(sorted(self._tenants))}. Try again in a moment."
            )
        for other in leaving:
            self.release(other)
            other.leave()
        self._claims[tenant.name], self._tenants[tenant.name] = need_bytes, tenant
        return leaving

    def release(self, tenant: Tenant) -> None:
        """Give its memory back. Twice is harmless."""
        self._claims.pop(tenant.name, None)
        self._tenants.pop(tenant.name, None)


class _Full(Unavailable):
    """All memory is in use."""

    retry_after_seconds = _BUSY_RETRY_SECONDS


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"
