"""Batches: requests that are handed in together and answered when there is room, within a day.

A request is kept in our own words, sealed, under the id that it will have in the ledger. Its answer is kept in one
commit with its charge, so that it has exactly one of each, whatever happens meanwhile. What belongs to another
organisation does not exist.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from leadline.accounts.api_key import ApiKey
from leadline.catalog.catalog import Catalog
from leadline.chat.request import ChatRequest
from leadline.errors import InvalidRequest, ModelNotFound, NotFound
from leadline.ids import new_uuid
from leadline.serving.batch_rows import STATES, Addition, Batch, Counts, Creation, Sealed, State, no_batch
from leadline.serving.batch_store import LIFE_MICROSECONDS, Asked, BatchStore
from leadline.serving.codec import KeptAnswer, KeptError, encode
from leadline.serving.scopes import refuse_endpoint
from leadline.storage.database import Row

# Added at once.
MOST_ADDED = 1_000
LARGEST_REQUEST_BYTES = 4 * 1024 * 1024
LONGEST_NAME = 200
# Results on a page, beside their number.
_PAGE_BYTES = 16 * 1024 * 1024
# So many requests are put into our form before others have a turn, and so many lines and bytes of a file are kept in
# one commit.
_AT_ONCE = 32
_FILLED_BYTES = 4 * 1024 * 1024
# In the order of ids.
_BEHIND_ALL = "batch_g"
_ID = re.compile(r"batch_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SELECT = (
    "SELECT id, organisation_id, key_id, name, created_at, expires_at, cancelled_at, cancelled_because, input_file_id"
    " FROM batches"
)


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request to be added. `name` is what its client calls it, None: it gets a name. `notes` are what a dialect keeps
    with the answer, `spellings` what it keeps of the request, each under its own name. `at` is the field in which it
    came, `body_at` that of what is asked for."""

    request: ChatRequest
    at: str
    body_at: str
    name: str | None = None
    notes: Mapping[str, bytes] = field(default_factory=dict)
    spellings: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchRequest:
    """A request of a batch, without what it asks for. `number` is its place, from 1 on; times are in microseconds."""

    request_id: str
    number: int
    name: str
    model: str
    state: State
    created_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a request."""

    request: BatchRequest
    outcome: KeptAnswer | KeptError


@dataclass(slots=True)
class Batches:
    """`decode_line` gives the request in a line of a file; of the latter it gets how errors name it."""

    store: BatchStore
    catalog: Catalog
    decode_line: Callable[[bytes, str], NewRequest]

    async def create(self, caller: ApiKey, name: str) -> Batch:
        """A batch without requests. RateLimited where the organisation has too many."""
        return await self._create(caller, name, None)

    async def _create(self, caller: ApiKey, name: str, input_file_id: str | None) -> Batch:
        """With a file it is seen by nobody until it is filled."""
        refuse_endpoint(caller, "batch")
        _check_name(name, "name")
        now = self.store.clock()
        batch = Batch(
            *(f"batch_{new_uuid()}", caller.organisation_id, caller.id, name, now, now + LIFE_MICROSECONDS),
            *(None, "", input_file_id),
        )
        await self.store.create(Creation(batch, is_open=input_file_id is None))
        return batch

    async def find(self, caller: ApiKey, batch_id: str) -> Batch:
        """The batch, or NotFound."""
        refuse_endpoint(caller, "batch")
        rows = await self.store.database.rows(
            f"{_SELECT} WHERE id = $1 AND organisation_id = $2 AND open = 1", *_place(caller, batch_id)
        )
        if not rows:
            raise no_batch()
        counts = await self.store.database.rows(
            "SELECT state, COUNT(*), SUM(cost_ticks) FROM batch_requests WHERE batch_id = $1 GROUP BY state", batch_id
        )
        return replace(Batch(*rows[0]), counts=Counts.of(counts))

    async def page(self, caller: ApiKey, limit: int, after: str | None = None) -> tuple[list[Batch], bool]:
        """The newest `limit` batches, of those older than the one with the id `after`; and whether there are more."""
        refuse_endpoint(caller, "batch")
        before = _BEHIND_ALL if after is None else _id(after, "pagination_token")
        rows = await self.store.database.rows(
            f"{_SELECT} WHERE organisation_id = $1 AND id < $2 AND open = 1 ORDER BY id DESC LIMIT $3",
            *(caller.organisation_id, before, limit + 1),
        )
        page = [Batch(*row) for row in rows[:limit]]
        if not page:
            return [], False
        counts: dict[str, list[Row]] = {}
        for batch_id, *count in await self.store.database.rows(
            "SELECT b.id, r.state, COUNT(*), SUM(r.cost_ticks) FROM batches b JOIN batch_requests r"
            " ON r.batch_id = b.id WHERE b.organisation_id = $1 AND b.id BETWEEN $2 AND $3 GROUP BY b.id, r.state",
            *(caller.organisation_id, page[-1].id, page[0].id),
        ):
            counts.setdefault(batch_id, []).append(tuple(count))
        return [replace(batch, counts=Counts.of(counts.get(batch.id, []))) for batch in page], len(rows) > limit

    async def add(self, caller: ApiKey, batch_id: str, requests: Sequence[NewRequest]) -> None:
        """Add the requests, all or none. They are charged to the caller's key."""
        if not 1 <= len(requests) <= MOST_ADDED:
            raise InvalidRequest(f"batch_requests must have 1 to {MOST_ADDED} entries.", "batch_requests")
        batch = await self.find(caller, batch_id)
        refuse_endpoint(caller, "chat")
        if batch.input_file_id is not None:
            raise InvalidRequest("The requests of this batch come from its file, so none are added.", "batch_id")
        await self._add(caller, batch, requests)

    async def create_from_file(
        self, caller: ApiKey, name: str, input_file_id: str, lines: AsyncGenerator[bytes, None]
    ) -> Batch:
        """A batch of the requests in a file, one a line. Nothing of it begins before all of it was read; where a line
        is wrong, there is no batch."""
        refuse_endpoint(caller, "chat")
        batch = await self._create(caller, name, input_file_id)
        try:
            models = await self._fill(caller, batch, lines)
        except BaseException as error:
            await self.store.delete(batch.id)
            if isinstance(error, InvalidRequest):
                error.param = "input_file_id"
            raise
        # From here on its requests may begin, so it is not deleted any more.
        await self.store.open_batch(batch, models)
        return await self.find(caller, batch.id)

    async def _fill(self, caller: ApiKey, batch: Batch, lines: AsyncGenerator[bytes, None]) -> set[str]:
        """The models of its requests, once they are there."""
        gathered: list[NewRequest] = []
        models = set[str]()
        size_bytes, number = 0, 0
        async with aclosing(lines):
            async for line in lines:
                number += 1
                if line.strip():
                    gathered.append(self.decode_line(line, f"line {number}"))
                    size_bytes += len(line)
                if len(gathered) == _AT_ONCE or size_bytes > _FILLED_BYTES:
                    models |= await self._add(caller, batch, gathered, is_open=False)
                    gathered, size_bytes = [], 0
        models |= await self._add(caller, batch, gathered, is_open=False)
        if not models:
            raise InvalidRequest("The file holds no requests.", "input_file_id")
        return models

    async def _add(
        self, caller: ApiKey, batch: Batch, requests: Sequence[NewRequest], *, is_open: bool = True
    ) -> set[str]:
        """The models of the requests, once they are there."""
        sealed: list[Sealed] = []
        for place, request in enumerate(requests):
            if place % _AT_ONCE == 0:
                await asyncio.sleep(0)
            sealed.append(self._sealed(caller.organisation_id, request))
        now = self.store.clock()
        addition = Addition(caller.organisation_id, batch.id, batch.expires_at, caller.id, sealed, now)
        await self.store.add(addition, is_open=is_open)
        return {request.model for request in sealed}

    def _sealed(self, organisation_id: str, new: NewRequest) -> Sealed:
        try:
            model = self.catalog.find(new.request.model)
        except ModelNotFound as error:
            raise InvalidRequest(f"{new.body_at}.model: {error}", f"{new.body_at}.model") from None
        request_id = str(new_uuid())
        if new.name is not None:
            _check_name(new.name, f"{new.at}.batch_request_id")
        asked = Asked(encode(new.request), dict(new.notes), dict(new.spellings))
        content = self.store.seal(organisation_id, request_id, asked)
        if len(content) > LARGEST_REQUEST_BYTES:
            most = f"{LARGEST_REQUEST_BYTES // 1024**2} MiB"
            raise InvalidRequest(f"{new.at} is too large: a request of a batch has at most {most}.", new.at)
        return Sealed(request_id, new.name or request_id, model.name, content, new.at)

    async def cancel(self, caller: ApiKey, batch_id: str) -> Batch:
        """What has not begun is cancelled at once, what runs comes to its end. A second time changes nothing."""
        await self.find(caller, batch_id)
        await self.store.end(batch_id, "")
        return await self.find(caller, batch_id)

    async def requests(
        self, caller: ApiKey, batch_id: str, limit: int, after: str | None = None, states: Iterable[State] = ()
    ) -> tuple[list[BatchRequest], bool]:
        """The first `limit` requests in one of these states, or in any, of those behind the one that is called `after`;
        and whether there are more."""
        first = await self._number_after(caller, batch_id, after)
        wanted = set(states) or set(STATES)
        asked = [state if state in wanted else "" for state in STATES]
        rows = await self.store.database.rows(
            "SELECT request_id, number, name, model, state, created_at, ended_at FROM batch_requests"
            " WHERE batch_id = $1 AND number > $2 AND state IN ($3, $4, $5, $6) ORDER BY number LIMIT $7",
            *(batch_id, first),
            *asked,
            limit + 1,
        )
        return [BatchRequest(*row) for row in rows[:limit]], len(rows) > limit

    async def results(
        self, caller: ApiKey, batch_id: str, limit: int, after: str | None = None
    ) -> tuple[list[Result], bool]:
        """The first results of those behind the request that is called `after`, at most `limit`, or 16 MiB of them; and
        whether there are more."""
        first = await self._number_after(caller, batch_id, after)
        sizes = await self.store.database.rows(
            "SELECT number, LENGTH(result) FROM batch_requests WHERE batch_id = $1 AND number > $2"
            " AND state IN ('succeeded', 'failed') ORDER BY number LIMIT $3",
            *(batch_id, first, limit + 1),
        )
        last, size_bytes = first, 0
        for number, bytes_ in sizes[:limit]:
            size_bytes += bytes_
            if last > first and size_bytes > _PAGE_BYTES:
                break
            last = number
        rows = await self.store.database.rows(
            "SELECT request_id, number, name, model, state, created_at, ended_at, result FROM batch_requests"
            " WHERE batch_id = $1 AND number > $2 AND number <= $3 AND state IN ('succeeded', 'failed')"
            " ORDER BY number",
            *(batch_id, first, last),
        )
        results = [
            Result(BatchRequest(*row), self.store.open_result(caller.organisation_id, row[0], content))
            for *row, content in rows
        ]
        return results, any(number > last for number, _ in sizes)

    async def _number_after(self, caller: ApiKey, batch_id: str, name: str | None) -> int:
        """The place of the request that the last page ended with; 0 for the first page."""
        await self.find(caller, batch_id)
        if name is None:
            return 0
        rows = await self.store.database.rows(
            "SELECT number FROM batch_requests WHERE batch_id = $1 AND name = $2", batch_id, name
        )
        if not rows:
            raise InvalidRequest("pagination_token is none that a list has given.", "pagination_token")
        return int(rows[0][0])

    async def request(
        self, caller: ApiKey, batch_id: str, name: str
    ) -> tuple[BatchRequest, Asked, KeptAnswer | KeptError | None]:
        """One request by its name: what it asks for, and what came of it, if anything has."""
        await self.find(caller, batch_id)
        rows = await self.store.database.rows(
            "SELECT request_id, number, name, model, state, created_at, ended_at, result, request FROM batch_requests"
            " WHERE batch_id = $1 AND name = $2",
            *(batch_id, name),
        )
        if not rows:
            raise NotFound("There is no request with this id in the batch.")
        *row, result, content = rows[0]
        request = BatchRequest(*row)
        asked = self.store.open(caller.organisation_id, request.request_id, content)
        if result is None:
            return request, asked, None
        return request, asked, self.store.open_result(caller.organisation_id, request.request_id, result)


def _check_name(name: str, param: str) -> None:
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InvalidRequest(f"{param} must have 1 to {LONGEST_NAME} printable characters.", param)


def _id(batch_id: str, param: str) -> str:
    if not _ID.fullmatch(batch_id):
        raise InvalidRequest(f"{param} is none that a list has given.", param)
    return batch_id


def _place(caller: ApiKey, batch_id: str) -> tuple[str, str]:
    return (batch_id if _ID.fullmatch(batch_id) else ""), caller.organisation_id
