"""Tables as CSV that spreadsheets open without running anything in it."""

import csv
import io
import re
from collections.abc import AsyncIterator, Sequence

from starlette.responses import StreamingResponse

Cell = str | int | None
# What spreadsheets take for the beginning of a formula. A plain number is none.
_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_ROWS_AT_ONCE = 200


def csv_file(name: str, columns: Sequence[str], rows: AsyncIterator[Sequence[Cell]]) -> StreamingResponse:
    """The answer that a browser keeps as the file `name`. Its rows go out as they come."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_written(columns, rows), media_type="text/csv; charset=utf-8", headers=headers)


async def _written(columns: Sequence[str], rows: AsyncIterator[Sequence[Cell]]) -> AsyncIterator[str]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    waiting = 1
    async for row in rows:
        writer.writerow([harmless(cell) for cell in row])
        waiting += 1
        if waiting >= _ROWS_AT_ONCE:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
            waiting = 0
    yield text.getvalue()


def harmless(cell: Cell) -> Cell:
    """The cell, as text where a spreadsheet would take it for a formula."""
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return f"'{cell}"
    return cell
