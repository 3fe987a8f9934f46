"""Tables that a browser keeps as CSV, whose rows go out as they come."""

from collections.abc import AsyncIterator, Sequence

from starlette.responses import StreamingResponse

from leadline.administration.spreadsheet import csv_line, harmless

Cell = str | int | None
_ROWS_AT_ONCE = 200


def csv_file(name: str, columns: Sequence[str], rows: AsyncIterator[Sequence[Cell]]) -> StreamingResponse:
    """The answer that a browser keeps as the file `name`. No cell of it is a formula."""
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_written(columns, rows), media_type="text/csv; charset=utf-8", headers=headers)


async def _written(columns: Sequence[str], rows: AsyncIterator[Sequence[Cell]]) -> AsyncIterator[str]:
    lines = [csv_line(columns)]
    async for row in rows:
        lines.append(csv_line([harmless(cell) for cell in row]))
        if len(lines) >= _ROWS_AT_ONCE:
            yield "".join(lines)
            lines.clear()
    yield "".join(lines)
