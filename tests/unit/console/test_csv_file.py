"""Tables as CSV, as spreadsheets read them."""

import csv
from collections.abc import AsyncIterator

import pytest

from leadline.administration.spreadsheet import harmless
from leadline.console.csv_file import Cell, csv_file


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
def test_what_begins_like_a_formula_is_text(text):
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["plain", "", "a=1", 5, -5])
def test_all_else_stays_as_it_is(cell):
    assert harmless(cell) == cell


async def test_a_file_has_its_name_its_columns_and_all_rows_however_many():
    async def rows() -> AsyncIterator[list[Cell]]:
        for number in range(450):
            yield [number, f'a "quoted", text\nof two lines {number}', "=evil()"]

    answer = csv_file("audit.csv", ["number", "text", "formula"], rows())
    text = "".join([piece if isinstance(piece, str) else bytes(piece).decode() async for piece in answer.body_iterator])
    read = list(csv.reader(text.splitlines(keepends=True)))
    assert read[0] == ["number", "text", "formula"]
    assert read[450] == ["449", 'a "quoted", text\nof two lines 449', "'=evil()"]
    assert len(read) == 451
    assert answer.headers["content-disposition"] == 'attachment; filename="audit.csv"'
