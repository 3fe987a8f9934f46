"""The rows of files: what is known of each, and pages of lists in a fixed order, which go on where a file was."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from leadline.errors import InvalidRequest
from leadline.serving.file_filter import conditions_of
from leadline.storage.database import Database, Write

SortKey = Literal["created_at", "filename", "size"]

MOST_ON_A_PAGE = 10_000
_COLUMNS = "id, filename, purpose, size_bytes, sha256, created_at, expires_at"
_LIVES = "organisation_id = $1 AND (expires_at IS NULL OR expires_at > $2)"
# Ids come in the order of their times.
_KEYS: dict[SortKey, str] = {"created_at": "id", "filename": "filename", "size": "size_bytes"}


@dataclass(frozen=True, slots=True)
class File:
    """`purpose` is what its owner said of it. Times are microseconds; without `expires_at` it stays."""

    id: str
    filename: str
    purpose: str
    size_bytes: int
    sha256: str
    created_at: int
    expires_at: int | None


@dataclass(frozen=True, slots=True)
class FileOrder:
    """Which files, in which order. `filter` is in the words of `file_filter.py`. `after` is the id of the file behind
    which the page begins; `token`, which wins, is that of the page before, and good also where that file was deleted
    meanwhile."""

    limit: int = 100
    sort_by: SortKey = "created_at"
    ascending: bool = False
    purpose: str | None = None
    filter: str | None = None
    after: str | None = None
    token: str | None = None


@dataclass(frozen=True, slots=True)
class FilePage:
    """`token` is where the next page begins; None: there is none."""

    files: tuple[File, ...]
    token: str | None


class _Place(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """Where a page ends: by what it is sorted, the last file's key, and its id."""

    sort_by: str
    key: str | Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    id: str


async def find_row(database: Database, organisation_id: str, file_id: str, now: int) -> File | None:
    sql = f"SELECT {_COLUMNS} FROM files WHERE {_LIVES} AND id = $3"  # noqa: S608 names of our own
    rows = await database.rows(sql, organisation_id, now, file_id)
    return File(*rows[0]) if rows else None


async def page_of_rows(database: Database, organisation_id: str, order: FileOrder, now: int) -> FilePage:
    """InvalidRequest that names `limit`, `filter`, `after` or `pagination_token`."""
    if not 1 <= order.limit <= MOST_ON_A_PAGE:
        raise InvalidRequest(f"limit must be an integer from 1 to {MOST_ON_A_PAGE}.", "limit")
    place = await _place_of(database, organisation_id, order, now)
    key, sign, way = _KEYS[order.sort_by], *((">", "ASC") if order.ascending else ("<", "DESC"))
    values: list[str | int] = [organisation_id, now]
    conditions = [_LIVES]
    if order.purpose is not None:
        values.append(order.purpose)
        conditions.append(f"purpose = ${len(values)}")
    if order.filter:
        conditions += conditions_of(order.filter, values)
    if place is not None:
        values += [place.key, place.id]
        conditions.append(f"({key}, id) {sign} (${len(values) - 1}, ${len(values)})")
    values.append(order.limit + 1)
    rows = await database.rows(
        f"SELECT {_COLUMNS} FROM files WHERE {' AND '.join(conditions)}"  # noqa: S608 names of our own
        f" ORDER BY {key} {way}, id {way} LIMIT ${len(values)}",
        *values,
    )
    files = tuple(File(*row) for row in rows[: order.limit])
    return FilePage(files, _token(order, files[-1]) if len(rows) > order.limit else None)


def insertion(organisation_id: str, file: File) -> Write:
    values = (file.id, file.filename, file.purpose, file.size_bytes, file.sha256, file.created_at, file.expires_at)
    sql = f"INSERT INTO files ({_COLUMNS}, organisation_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"  # noqa: S608
    return Write(sql, (*values, organisation_id))


def deletion(file_id: str) -> Write:
    """A Conflict where somebody deleted it meanwhile."""
    return Write("DELETE FROM files WHERE id = $1", (file_id,))


async def _place_of(database: Database, organisation_id: str, order: FileOrder, now: int) -> _Place | None:
    if order.token:
        return _read_token(order, order.token)
    if not order.after:
        return None
    if order.sort_by == "created_at":
        return _Place(order.sort_by, order.after, order.after)
    file = await find_row(database, organisation_id, order.after, now)
    if file is None:
        raise InvalidRequest("after is not the id of a file. Go on with pagination_token instead.", "after")
    return _place_behind(order, file)


def _place_behind(order: FileOrder, file: File) -> _Place:
    keys: dict[str, str | int] = {"created_at": file.id, "filename": file.filename, "size": file.size_bytes}
    return _Place(order.sort_by, keys[order.sort_by], file.id)


def _token(order: FileOrder, file: File) -> str:
    return urlsafe_b64encode(msgspec.msgpack.encode(_place_behind(order, file))).decode().rstrip("=")


def _read_token(order: FileOrder, token: str) -> _Place:
    """By `created_at`, a file's id does as well."""
    if order.sort_by == "created_at" and token.startswith("file_"):
        return _Place(order.sort_by, token, token)
    try:
        place = msgspec.msgpack.decode(urlsafe_b64decode(token + "=" * (-len(token) % 4)), type=_Place)
    except (ValueError, msgspec.MsgspecError):
        place = None
    if place is None or place.sort_by != order.sort_by or isinstance(place.key, int) != (order.sort_by == "size"):
        raise InvalidRequest("pagination_token is not one of this list, in this order.", "pagination_token")
    return place
