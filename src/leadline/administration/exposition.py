"""The text format of Prometheus, version 0.0.4: a line for each number, under two lines about its metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType

from leadline.histogram import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_NONE: Mapping[str, str] = MappingProxyType({})
_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})


@dataclass(slots=True)
class Exposition:
    """The lines. A metric's values come right after it."""

    lines: list[str] = field(default_factory=list)

    def metric(self, name: str, kind: str, meaning: str) -> None:
        self.lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]

    def value(self, name: str, number: float, **labels: str) -> None:
        self.lines.append(_line(name, _labelled(labels), number))

    def one(self, name: str, kind: str, meaning: str, number: float) -> None:
        """A metric that has one value."""
        self.metric(name, kind, meaning)
        self.value(name, number)

    def histogram(
        self, name: str, histogram: Histogram, labels: Mapping[str, str] = _NONE, per_unit: float = 1
    ) -> None:
        """`per_unit` of the histogram's units are one of the metric's. Empty ones are left out."""
        counts: Sequence[int] = histogram.counts.copy()  # another thread may be counting
        if not any(counts):
            return
        told = _labelled(labels)
        *below, count = accumulate(counts)
        for bound, number in zip(histogram.bounds, below, strict=True):
            self.lines.append(_line(f"{name}_bucket", [*told, f'le="{bound / per_unit:g}"'], number))
        self.lines.append(_line(f"{name}_bucket", [*told, 'le="+Inf"'], count))
        self.lines.append(_line(f"{name}_sum", told, histogram.total / per_unit))
        self.lines.append(_line(f"{name}_count", told, count))

    def text(self) -> str:
        return "\n".join([*self.lines, ""])


def _labelled(labels: Mapping[str, str]) -> list[str]:
    return [f'{label}="{text.translate(_ESCAPED)}"' for label, text in labels.items()]


def _line(name: str, labels: Sequence[str], number: float) -> str:
    return f"{name}{{{','.join(labels)}}} {number}" if labels else f"{name} {number}"
