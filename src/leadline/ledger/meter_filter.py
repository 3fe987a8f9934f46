"""Which meters somebody looks at: those of one organisation, of some models, keys and endpoints."""

from collections.abc import Iterator
from dataclasses import dataclass

from leadline.storage.database import Database, Value


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

    def condition(self, first: int) -> tuple[str, tuple[Value, ...]]:
        """SQL on the columns of `meters`, with placeholders from `$first` on, and their values."""
        parts, values = [f"organisation_id = ${first}"], [self.organisation_id]
        for column, wanted in self._columns():
            places = ", ".join(f"${first + len(values) + number}" for number in range(len(wanted)))
            parts.append(f"{column} IN ({places})")
            values += sorted(wanted)
        return " AND ".join(parts), tuple(values)

    def _columns(self) -> Iterator[tuple[str, frozenset[str]]]:
        for column, wanted in (("model", self.models), ("key_id", self.keys), ("endpoint", self.endpoints)):
            if wanted:
                yield column, wanted


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
