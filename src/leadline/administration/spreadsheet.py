"""CSV that a spreadsheet opens without running any of it."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from leadline.money import TICKS_PER_USD

# A spreadsheet would take a cell that begins so for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """The columns' names, then a line for each row as it comes. What costs ticks is there in dollars too, with all of
    their ten decimals."""
    headings = [name for column in columns for name in _headings(column)]
    yield csv_line(headings)
    for row in rows:
        yield csv_line([cell for column in columns for cell in _cells(column, row[column])])


def _headings(column: str) -> tuple[str, ...]:
    return (column, column.replace("_ticks", "_usd")) if column.endswith("_ticks") else (column,)


def _cells(column: str, value: Any) -> tuple[Any, ...]:
    if column.endswith("_ticks"):
        return value, _usd(value)
    return (harmless(value),)


def _usd(ticks: int) -> str:
    whole, fraction = divmod(abs(ticks), TICKS_PER_USD)
    return f"{'-' if ticks < 0 else ''}{whole}.{fraction:010d}"


def harmless(value: Any) -> Any:
    """A cell's value, as text where a spreadsheet would take it for a formula."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return "" if value is None else value


def csv_line(cells: Sequence[Any]) -> str:
    text = io.StringIO()
    # Cells with one of the characters that end a line are quoted.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"
