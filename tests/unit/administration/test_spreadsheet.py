"""CSV that no spreadsheet runs."""

import csv
import io

import pytest

from leadline.administration.spreadsheet import csv_lines


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_what_begins_as_a_formula_is_text(cell: str) -> None:
    [_, [shown]] = csv.reader(io.StringIO("".join(csv_lines(("name",), [{"name": cell}])), newline=""))

    assert shown == f"'{cell}"


def test_amounts_are_numbers_in_ticks_and_dollars() -> None:
    rows = [{"name": 'a "b", c', "cost_ticks": -12_345_678_901}, {"name": None, "cost_ticks": 7}]

    assert list(csv_lines(("name", "cost_ticks"), rows)) == [
        "name,cost_ticks,cost_usd\n",
        '"a ""b"", c",-12345678901,-1.2345678901\n',
        ",7,0.0000000007\n",
    ]


def test_lines_come_as_rows_do() -> None:
    def rows() -> object:
        yield {"name": "first"}
        raise AssertionError("asked for too early")

    lines = csv_lines(("name",), rows())  # type: ignore[arg-type]

    assert [next(lines), next(lines)] == ["name\n", "first\n"]
