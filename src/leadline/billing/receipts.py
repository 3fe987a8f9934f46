"""Receipts, one for each payment, and to whom they are made out. A receipt says what was true when it was written."""

import re
from dataclasses import dataclass

from leadline.clock import date_of, day_of
from leadline.errors import InvalidRequest, NotFound
from leadline.storage.database import Database, Row, Write

MOST_LINES = 6
_LONGEST_NAME, _LONGEST_LINE, _LONGEST_TAX_ID = 200, 200, 50
_NUMBER = re.compile(r"R-(\d{4})-(\d{6,12})")


@dataclass(frozen=True, slots=True)
class BillingDetails:
    """To whom receipts are made out; `lines` are those of the address."""

    name: str = ""
    lines: tuple[str, ...] = ()
    tax_id: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One payment. `at` is in microseconds, `organisation` its name then."""

    year: int
    sequence: int
    organisation_id: str
    at: int
    cents: int
    payment: str
    organisation: str
    details: BillingDetails

    @property
    def number(self) -> str:
        return receipt_number(self.year, self.sequence)


class Receipts:
    """Those of an organisation, the newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, organisation_id: str, limit: int) -> list[Receipt]:
        rows = await self._database.rows(
            f"{_RECEIPTS} WHERE organisation_id = $1 ORDER BY year DESC, number DESC LIMIT $2", organisation_id, limit
        )
        return [_receipt(row) for row in rows]

    async def find(self, organisation_id: str, number: str) -> Receipt:
        """By its number, or by its payment. NotFound also where it is another organisation's."""
        written = _NUMBER.fullmatch(number)
        condition, values = (
            ("year = $2 AND number = $3", tuple(map(int, written.groups()))) if written else ("payment = $2", (number,))
        )
        for row in await self._database.rows(
            f"{_RECEIPTS} WHERE organisation_id = $1 AND {condition}", organisation_id, *values
        ):
            return _receipt(row)
        raise NotFound("There is no receipt with this number.")

    async def numbers(self, organisation_id: str) -> dict[str, str]:
        """Those of all its payments, by the id of the entry that credited each."""
        rows = await self._database.rows(
            "SELECT t.entry_id, r.year, r.number FROM top_ups t JOIN receipts r ON r.payment = t.payment"
            " WHERE t.organisation_id = $1 AND t.entry_id IS NOT NULL",
            organisation_id,
        )
        return {entry_id: receipt_number(year, sequence) for entry_id, year, sequence in rows}

    async def details(self, organisation_id: str) -> BillingDetails:
        rows = await self._database.rows(
            "SELECT name, lines, tax_id FROM billing_details WHERE organisation_id = $1", organisation_id
        )
        return _details(*rows[0]) if rows else BillingDetails()


def receipt_number(year: int, sequence: int) -> str:
    return f"R-{year}-{sequence:06d}"


def changed_details(organisation_id: str, details: BillingDetails) -> Write:
    """Receipts from now on have them. InvalidRequest names what is too long."""
    _refuse_long("name", details.name, _LONGEST_NAME)
    _refuse_long("tax_id", details.tax_id, _LONGEST_TAX_ID)
    if len(details.lines) > MOST_LINES:
        raise InvalidRequest(f"An address has {MOST_LINES} lines at most.", "address")
    for line in details.lines:
        _refuse_long("address", line, _LONGEST_LINE)
    return Write(
        "INSERT INTO billing_details (organisation_id, name, lines, tax_id) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (organisation_id) DO UPDATE SET name = excluded.name, lines = excluded.lines,"
        " tax_id = excluded.tax_id",
        (organisation_id, details.name, "\n".join(details.lines), details.tax_id),
    )


def written_receipt(organisation_id: str, at: int, cents: int, payment: str) -> Write:
    """The next number of its year, in the commit of the credit: no number is ever left out."""
    return Write(
        "INSERT INTO receipts (year, number, organisation_id, at, cents, payment, organisation, name, lines, tax_id)"
        " SELECT $1, (SELECT COALESCE(MAX(r.number), 0) + 1 FROM receipts r WHERE r.year = $1), o.id, $3, $4, $5,"
        " o.name, COALESCE(b.name, ''), COALESCE(b.lines, ''), COALESCE(b.tax_id, '')"
        " FROM organisations o LEFT JOIN billing_details b ON b.organisation_id = o.id WHERE o.id = $2",
        (date_of(day_of(at)).year, organisation_id, at, cents, payment),
    )


_RECEIPTS = "SELECT year, number, organisation_id, at, cents, payment, organisation, name, lines, tax_id FROM receipts"


def _receipt(row: Row) -> Receipt:
    year, sequence, organisation_id, at, cents, payment, organisation, *details = row
    return Receipt(year, sequence, organisation_id, at, cents, payment, organisation, _details(*details))


def _details(name: str, lines: str, tax_id: str) -> BillingDetails:
    return BillingDetails(name, tuple(lines.split("\n")) if lines else (), tax_id)


def _refuse_long(field: str, text: str, longest: int) -> None:
    if len(text) > longest or not text.isprintable():
        raise InvalidRequest(f"This may have {longest} printable characters at most.", field)
