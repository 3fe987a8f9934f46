"""Sums of what was used, read from the fewest rows that tell what is asked.

Each meter has its own by the hour and the day, written with the charges. A model, a key or an endpoint as a whole has
them too, written with the index of records: they serve whoever tells nothing else apart, and are far fewer. What either
lacks is read from the records that are not indexed yet.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.ledger.meter_filter import Column, MeterFilter
from leadline.ledger.token_costs import COST_COLUMNS, FRESH
from leadline.ledger.usage import COUNTS
from leadline.storage.database import Row, Snapshot

Grain = Literal["hour", "day"]

_LENGTHS = {"hour": MICROSECONDS_PER_HOUR, "day": MICROSECONDS_PER_DAY}
_HOURS_OF_DAY = 24
_SIDES = {"model": "model", "key_id": "key", "endpoint": "endpoint"}


@dataclass(frozen=True, slots=True)
class Span:
    """Hours or days (since 1970) from `first` until before `end`, of some meters, by one of their columns or all
    together."""

    meters: MeterFilter
    first: int
    end: int
    grain: Grain
    by: Column | None

    @property
    def side(self) -> str | None:
        """The only column of meters that it tells apart; any where it tells none, None where it tells several."""
        told = self.meters.columns | ({self.by} if self.by is not None else set())
        return None if len(told) > 1 else next(iter(told), "endpoint")


def sums(snapshot: Snapshot, span: Span, columns: Sequence[str]) -> Iterator[Row]:
    """A name of `by`, and sums of `columns`, which are of COUNTS and COST_COLUMNS; some of a name apart. In whole days
    as far as these go."""
    for part in _parts(span):
        yield from _summed(snapshot, part, columns, stepped=False)
    yield from _not_summed(snapshot, span, columns, stepped=False)


def stepped_sums(snapshot: Snapshot, span: Span, columns: Sequence[str]) -> Iterator[Row]:
    """A name of `by`, an hour or day, and sums of `columns`; some of them apart."""
    yield from _summed(snapshot, span, columns, stepped=True)
    yield from _not_summed(snapshot, span, columns, stepped=True)


def _parts(span: Span) -> Iterator[Span]:
    midnight, last_midnight = -(-span.first // _HOURS_OF_DAY), span.end // _HOURS_OF_DAY
    if span.grain == "day" or midnight >= last_midnight:
        yield span
        return
    yield Span(span.meters, midnight, last_midnight, "day", span.by)
    for first, end in ((span.first, midnight * _HOURS_OF_DAY), (last_midnight * _HOURS_OF_DAY, span.end)):
        if first < end:
            yield Span(span.meters, first, end, "hour", span.by)


def _summed(snapshot: Snapshot, span: Span, columns: Sequence[str], *, stepped: bool) -> Iterator[Row]:
    grain, side = span.grain, span.side
    told: str = span.by or "organisation_id"
    condition, values = span.meters.condition(3)
    if side is None:
        rows = f"meters JOIN usage_{grain}s ON meter_id = id WHERE {condition}"
    else:
        told = told if span.by is None else "name"
        # By their names, or the whole past would be read for a few hours of each.
        rows = (
            f"usage_{grain}s_by WHERE organisation_id = $3 AND side = '{_SIDES[side]}'"
            f" AND name IN (SELECT {side} FROM meters WHERE {condition})"
        )
    groups = f"{told}, {grain}" if stepped else told
    return snapshot.rows(
        f"SELECT {groups}, {_added(columns)} FROM {rows} AND {grain} >= $1 AND {grain} < $2 GROUP BY {groups}",
        *(span.first, span.end, *values),
    )


def _not_summed(snapshot: Snapshot, span: Span, columns: Sequence[str], *, stepped: bool) -> Iterator[Row]:
    """What is not indexed yet. Meters have counted it, all but its costs by class."""
    counted = span.side is None
    if counted and not any(name in column for name in COST_COLUMNS for column in columns):
        return iter(())
    condition, values = span.meters.condition(3)
    counts = [f"0 AS {name}" for name in COUNTS] if counted else COUNTS
    length = _LENGTHS[span.grain]
    told = span.by or "organisation_id"
    return snapshot.rows(
        f"{FRESH} SELECT {told}{f', at / {length}' if stepped else ''}, {_added(columns)} FROM meters JOIN"
        f" (SELECT meter_id, at, {', '.join((*counts, *COST_COLUMNS))} FROM fresh) waiting ON meter_id = id"
        f" WHERE {condition} AND at >= $1 AND at < $2 GROUP BY {'1, 2' if stepped else '1'}",
        *(span.first * length, span.end * length, *values),
    )


def _added(columns: Sequence[str]) -> str:
    return ", ".join(f"SUM({column})" for column in columns)
