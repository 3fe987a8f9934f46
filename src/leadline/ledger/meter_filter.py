"""Which meters somebody looks at: those of one organisation, of some models, keys and endpoints."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from leadline.storage.database import Database, Value

# What tells meters apart.
Column = Literal["model", "key_id", "endpoint"]


@dataclass(frozen=True, slots=True)
class MeterFilter:
    """An empty set means all. `keys` are ids."""

    organisation_id: str
    models: frozenset[str] = frozenset()
    keys: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()

    @property
    def narrows(self) -> bool:
        return bool(self.models or self.keys or self.endpoints)

    @property
    def columns(self) -> frozenset[Column]:
        """Those that it narrows."""
        return frozenset(column for column, _ in self._columns())

    def only(self, column: Column, wanted: Iterable[str]) -> "MeterFilter":
        """With these values of a column instead of its own."""
        values = frozenset(wanted)
        match column:
            case "model":
                return replace(self, models=values)
            case "key_id":
                return replace(self, keys=values)
            case "endpoint":
                return replace(self, endpoints=values)

    def condition(self, first: int) -> tuple[str, tuple[Value, ...]]:
        """SQL on the columns of `meters`, with placeholders from `$first` on, and their values."""
        parts, values = [f"organisation_id = ${first}"], [self.organisation_id]
        for column, wanted in self._columns():
            places = ", ".join(f"${first + len(values) + number}" for number in range(len(wanted)))
            parts.append(f"{column} IN ({places})")
            values += sorted(wanted)
        return " AND ".join(parts), tuple(values)

    def _columns(self) -> Iterator[tuple[Column, frozenset[str]]]:
        if self.models:
            yield "model", self.models
        if self.keys:
            yield "key_id", self.keys
        if self.endpoints:
            yield "endpoint", self.endpoints


@dataclass(frozen=True, slots=True)
class Metered:
    """What an organisation ever asked."""

    models: tuple[str, ...]
    endpoints: tuple[str, ...]


async def metered(database: Database, organisation_id: str) -> Metered:
    """The models and endpoints of its meters, by their names."""
    rows = await database.rows(
        "SELECT DISTINCT model, endpoint FROM meters WHERE organisation_id = $1", organisation_id
    )
    return Metered(*(tuple(sorted({row[column] for row in rows})) for column in (0, 1)))
