"""What the usage page and the request log are narrowed to: models, keys, endpoints and a time, all in the URL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leadline.console.address import Address
from leadline.console.time_range import TimeRange
from leadline.console.visit import Visit
from leadline.ledger.meter_filter import metered

# The parameters of the URL, and what the filters are called that they are.
FILTERS = {"model": "models", "key": "keys", "endpoint": "endpoints"}
TIME = ("range", "since", "until")
_MOST_CHOICES = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that a filter may have; `taken` says whether it has."""

    value: str
    label: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter that holds; `without` is the same page without it."""

    name: str
    label: str
    without: str


@dataclass(frozen=True, slots=True)
class Narrowing:
    """`choices` by the URL's names of the filters. `used`: whether the organisation ever asked anything."""

    address: Address
    time: TimeRange | None
    choices: Mapping[str, Sequence[Choice]]
    chips: Sequence[Chip]
    without: str
    open: bool
    used: bool


async def narrowing(
    visit: Visit, address: Address, time: TimeRange | None, more: Mapping[str, Sequence[tuple[str, str]]]
) -> Narrowing:
    """`more` are further filters of a page, with the values and labels that they can have."""
    used = await metered(visit.instance.database, visit.organisation_id)
    offered = dict.fromkeys((*(model.name for model in visit.pipeline.catalog.models), *used.models))
    keys = visit.instance.keys.names(visit.organisation_id)
    choices = {
        "model": _choices(address, "model", [(name, name) for name in offered]),
        "key": _choices(address, "key", [(key_id, keys[key_id]) for key_id in reversed(keys)]),
        "endpoint": _choices(address, "endpoint", [(path, path) for path in used.endpoints]),
    }
    choices |= {name: _choices(address, name, values) for name, values in more.items()}
    chips = [
        Chip(name, choice.label, address.less(name, choice.value))
        for name, several in choices.items()
        for choice in several
        if choice.taken
    ]
    without = Address(address.page, tuple(address.kept(*choices))).to()
    return Narrowing(address, time, choices, chips, without, visit.query("filter") == "open", bool(used.models))


def _choices(address: Address, name: str, values: Sequence[tuple[str, str]]) -> list[Choice]:
    """Those that are taken first, whatever they are, then so many of the others as are looked through."""
    labels, taken = dict(values), address.all(name)
    found = [Choice(value, labels.get(value, value), taken=True) for value in taken]
    return found + [Choice(value, label, taken=False) for value, label in values if value not in taken][:_MOST_CHOICES]
