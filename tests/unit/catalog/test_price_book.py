"""Dated prices: what a request costs that came then, before and after changes, and after a restart."""

import asyncio
import timeit
from dataclasses import asdict, replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.accounts.actor import Actor
from leadline.accounts.audit_log import AuditLog
from leadline.catalog.catalog import Catalog, build_catalog
from leadline.catalog.price_book import DatedPrices, PriceBook, PriceChange
from leadline.catalog.prices import FREE, Prices, prices_of
from leadline.clock import rfc3339
from leadline.config import ConfigurationError, ModelSection, PriceSection
from leadline.errors import InvalidRequest
from leadline.money import NOTHING, Ticks
from leadline.storage.database import Database, DatabaseUnusable
from tests.unit.conftest import Commits

CHEAP = prices_of(PriceSection(input=Decimal(1), output=Decimal(2)))
DEAR = prices_of(PriceSection(input=Decimal(3), output=Decimal(6)))
DEAREST = prices_of(PriceSection(input=Decimal(9), output=Decimal(18)))
EVERYTHING = Prices(*map(Ticks, (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)))


class SteppedClock:
    """Microseconds, as the test sets them."""

    def __init__(self, now: int = 1000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def book(database: Database, clock: SteppedClock) -> PriceBook:
    return PriceBook(database, clock)


async def reopened(database: Database, clock: SteppedClock) -> PriceBook:
    book = PriceBook(database, clock)
    await book.load()
    return book


def section(name: str = "mock", input: str = "1", output: str = "2") -> ModelSection:
    return ModelSection(name, "gpu", prices=PriceSection(input=Decimal(input), output=Decimal(output)))


async def test_a_model_without_prices_costs_nothing(book: PriceBook) -> None:
    assert book.at("mock", 1000) is FREE
    assert book.history("mock") == []


async def test_an_old_request_keeps_its_old_price(book: PriceBook, database: Database, clock: SteppedClock) -> None:
    await book.record("mock", CHEAP, None, "file")
    admitted_at = clock.now = 2000
    for clock.now, prices in ((3000, DEAR), (4000, DEAREST)):
        await book.record("mock", prices, None, "command")

    for known in (book, await reopened(database, clock)):
        assert known.at("mock", admitted_at) == CHEAP
        assert [known.at("mock", at) for at in (999, 1000, 2999, 3000, 3999, 4000)] == [
            FREE, CHEAP, CHEAP, DEAR, DEAR, DEAREST,
        ]  # fmt: skip


async def test_a_price_that_is_to_come_counts_by_itself_once_its_time_is_there(
    book: PriceBook, clock: SteppedClock
) -> None:
    await book.record("mock", CHEAP, None, "file")
    await book.record("mock", DEAR, 5000, "command")

    seen = []
    for clock.now in (1000, 4999, 5000, 6000):
        seen.append(book.at("mock", clock()))

    assert seen == [CHEAP, CHEAP, DEAR, DEAR]


async def test_a_change_of_today_holds_until_the_one_that_is_to_come(book: PriceBook, clock: SteppedClock) -> None:
    await book.record("mock", DEAR, 5000, "command")
    clock.now = 2000
    await book.record("mock", CHEAP, None, "command")

    assert [book.at("mock", at) for at in (1999, 2000, 4999, 5000)] == [FREE, CHEAP, CHEAP, DEAR]


async def test_of_two_changes_for_one_moment_the_later_one_counts(
    book: PriceBook, database: Database, clock: SteppedClock
) -> None:
    await book.record("mock", CHEAP, 5000, "command")
    await book.record("mock", DEAR, 5000, "command")
    clock.now = 900  # a clock that is set back changes nothing about the order
    await book.record("mock", DEAREST, 5000, "command")

    for known in (book, await reopened(database, clock)):
        assert known.at("mock", 5000) == DEAREST
        assert [change.prices for change in known.history("mock")] == [CHEAP, DEAR, DEAREST]


async def test_prices_cannot_be_changed_for_the_past(book: PriceBook, clock: SteppedClock) -> None:
    await book.record("mock", CHEAP, clock.now, "command")

    with pytest.raises(InvalidRequest, match=r"^Prices cannot be changed for the past\.$"):
        await book.record("mock", DEAR, clock.now - 1, "command")

    assert book.at("mock", clock.now) == CHEAP


async def test_every_price_of_every_model_comes_back_from_the_disk(
    book: PriceBook, database: Database, clock: SteppedClock
) -> None:
    nothing_named = replace(EVERYTHING, cached_input=None, image=None, reasoning=None)
    await book.record("mock", EVERYTHING, None, "command")
    await book.record("mock", nothing_named, 7000, "command")
    await book.record("other", FREE, None, "file")

    again = await reopened(database, clock)

    assert again.at("mock", 1000) == EVERYTHING
    assert again.at("mock", 7000) == nothing_named
    for model in ("mock", "other"):
        changes = again.history(model)
        assert changes == book.history(model)
        assert [(change.source, change.prices) for change in changes] == [
            (change.source, change.prices) for change in book.history(model)
        ]


async def test_a_change_in_the_file_counts_from_the_start_that_sees_it(
    book: PriceBook, database: Database, clock: SteppedClock
) -> None:
    await book.follow([section(input="1"), section("other")])
    clock.now = 2000
    again = await reopened(database, clock)
    await again.follow([section(input="3", output="6"), section("other")])

    assert [again.at("mock", at) for at in (1999, 2000)] == [CHEAP, DEAR]
    assert [change.source for change in again.history("mock")] == ["file", "file"]
    assert len(again.history("other")) == 1


async def test_a_price_set_by_command_stays_until_the_file_changes(
    book: PriceBook, database: Database, clock: SteppedClock
) -> None:
    await book.follow([section()])
    clock.now = 2000
    await book.record("mock", DEAREST, None, "command")

    clock.now = 3000
    same_file = await reopened(database, clock)
    await same_file.follow([section()])
    assert same_file.at("mock", clock.now) == DEAREST
    assert len(same_file.history("mock")) == 2

    clock.now = 4000
    changed_file = await reopened(database, clock)
    await changed_file.follow([section(input="3", output="6")])
    assert [changed_file.at("mock", at) for at in (3999, 4000)] == [DEAREST, DEAR]


async def test_a_command_on_a_model_without_prices_survives_the_next_start(
    book: PriceBook, database: Database, clock: SteppedClock
) -> None:
    priceless = ModelSection("mock", "gpu")
    await book.follow([priceless])
    await book.record("mock", DEAR, None, "command")

    again = await reopened(database, clock)
    await again.follow([priceless])

    assert again.at("mock", clock.now) == DEAR


async def test_a_price_that_cannot_be_is_refused_with_its_model_and_nothing_is_recorded(book: PriceBook) -> None:
    with pytest.raises(ConfigurationError, match=r"^model 'other': 0\.00001 USD .* more than four decimals\.$"):
        await book.follow([section(), section("other", input="0.00001")])

    assert book.history("mock") == []


async def test_a_change_that_the_disk_refuses_never_was(
    book: PriceBook, database: Database, clock: SteppedClock, commits: Commits
) -> None:
    await book.record("mock", CHEAP, None, "file")
    commits.refusals = 1

    with pytest.raises(DatabaseUnusable):
        await book.record("mock", DEAR, None, "command")

    assert book.at("mock", clock.now) == CHEAP
    assert book.history("mock") == (await reopened(database, clock)).history("mock")


async def test_a_moment_has_one_price_before_and_after_the_commit_of_its_change(
    book: PriceBook, clock: SteppedClock, commits: Commits
) -> None:
    commits.let_wait()
    change = asyncio.ensure_future(book.record("mock", CHEAP, None, "command"))
    await asyncio.sleep(0)
    before = book.at("mock", clock.now)
    commits.let_go()
    await change

    assert before is book.at("mock", clock.now) is CHEAP


async def test_the_models_of_the_catalogue_follow_the_book(book: PriceBook, clock: SteppedClock) -> None:
    catalog = catalog_of(book)
    model = catalog.find("mock")

    assert model.prices_at(clock.now) is FREE
    await book.record("mock", CHEAP, None, "file")
    assert (model.prices_at(clock.now), model.prices_at(clock.now - 1), model.prices) == (CHEAP, FREE, CHEAP)


async def test_without_a_book_the_prices_are_the_files() -> None:
    assert catalog_of(None).find("mock").prices_at(0) == CHEAP


def catalog_of(book: PriceBook | None) -> Catalog:
    return build_catalog([section()], {"gpu": None}, 1, book)  # type: ignore[dict-item]


MOMENTS = st.integers(0, 20)


@given(st.lists(MOMENTS), MOMENTS)
def test_the_price_at_a_moment_is_that_of_the_newest_change_up_to_then(dates: list[int], at: int) -> None:
    dated, newest = DatedPrices(), (-1, FREE)
    for number, date in enumerate(dates):
        prices = replace(FREE, input=Ticks(number))
        dated.add(PriceChange(date, number, "command", prices))
        if newest[0] <= date <= at:
            newest = (date, prices)

    assert dated.at(at) is newest[1]


async def test_the_price_of_now_is_found_in_no_time(book: PriceBook, clock: SteppedClock) -> None:
    for clock.now in range(1000, 1100):
        await book.record("mock", replace(CHEAP, image=NOTHING), None, "command")

    seconds = min(timeit.repeat(lambda: book.at("mock", 2000), number=10_000, repeat=5)) / 10_000

    assert seconds < 3e-6, "ten times what it takes"


async def test_who_changes_a_price_is_in_the_audit_log_and_the_file_is_not(database: Database) -> None:
    book = PriceBook(database, SteppedClock())
    bob = Actor("usr_bob", "bob@example.com")
    await book.record("mock", CHEAP, None, "file")
    await book.record("mock", DEAR, 5000, "command", bob)

    [row] = await AuditLog(database).rows(None)
    assert (row.actor, row.action, row.subject, row.organisation_id) == ("usr_bob", "prices change", "mock", "")
    assert row.before == {name: asdict(CHEAP)[name] for name in row.before}
    assert row.after == {name: asdict(DEAR)[name] for name in row.before} | {"effective_from": rfc3339(5000)}
    assert row.before


async def test_a_price_that_the_disk_refuses_is_in_no_audit_log(database: Database, commits: Commits) -> None:
    book = PriceBook(database, SteppedClock())
    commits.refusals = 1
    with pytest.raises(DatabaseUnusable):
        await book.record("mock", DEAR, None, "command", Actor("usr_bob", "bob@example.com"))

    assert await AuditLog(database).rows(None) == []
