"""Files: kept whole or not at all, within their bounds, for their organisation alone."""

import asyncio
import logging
import shutil
from collections import namedtuple
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from leadline.config import FilesSection
from leadline.errors import (
    FileDamaged,
    FileNotFound,
    FilesFull,
    InvalidRequest,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from leadline.serving import file_texts, files
from leadline.serving.file_contents import FileContents
from leadline.serving.file_rows import File, FileOrder
from leadline.serving.file_texts import lines_of, text_of
from leadline.serving.files import Files
from leadline.storage.database import Database, DatabaseUnusable
from leadline.storage.sealed import Sealer
from leadline.storage.sealed_pieces import PIECE_BYTES
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import HOUR, SECOND, SteppedClock

ALICE, CHARLIE = "org_alice", "org_charlie"
MOST = FilesSection(per_organisation=4, megabytes_per_organisation=1)
Space = namedtuple("Space", "total used free")


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "files"


@pytest.fixture
async def store(database: Database, clock: SteppedClock, folder: Path) -> AsyncIterator[Files]:
    opened = Files(database, FileContents(folder, Sealer(b"s" * 32)), MOST, clock)
    yield opened
    await opened.close(30)


async def keep(
    store: Files, content: bytes = b"hello", name: str = "a.txt", *, owner: str = ALICE, term: int | None = None
) -> File:
    async with store.upload(owner, name) as upload:
        await upload.write(content)
        return await upload.keep("test", term)


async def held(store: Files, file_id: str, owner: str = ALICE) -> bytes:
    async with store.open(owner, file_id) as content:
        return b"".join([piece async for piece in content.pieces()])


def on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def names(store: Files, order: FileOrder) -> list[str]:
    return [file.filename for file in (await store.page(ALICE, order)).files]


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES + 5])
async def test_a_file_comes_back_as_it_was_uploaded(store: Files, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    async with store.upload(ALICE, "a.bin") as upload:
        for begin in range(0, size, 100_000):
            await upload.write(content[begin : begin + 100_000])
        file = await upload.keep()
    assert await store.find(ALICE, file.id) == file
    assert (file.size_bytes, file.filename) == (size, "a.bin")
    assert await held(store, file.id) == content


async def test_anybody_elses_file_does_not_exist(store: Files, folder: Path) -> None:
    file = await keep(store)
    for attempt in (store.find(CHARLIE, file.id), held(store, file.id, CHARLIE), store.delete(CHARLIE, file.id)):
        with pytest.raises(FileNotFound) as refused:
            await attempt
        with pytest.raises(FileNotFound) as unknown:
            await store.find(CHARLIE, "file_0")
        assert str(refused.value) == str(unknown.value)
    assert (await store.page(CHARLIE, FileOrder())).files == ()
    with pytest.raises(InvalidRequest):
        await store.page(CHARLIE, FileOrder(sort_by="size", after=file.id))
    assert await held(store, file.id) == b"hello"


async def test_a_deleted_file_leaves_nothing_and_gives_its_room_back(store: Files, folder: Path) -> None:
    for _ in range(3):
        kept = [await keep(store) for _ in range(4)]
        with pytest.raises(FilesFull, match="4 of 4"):
            await keep(store)
        for file in kept:
            await store.delete(ALICE, file.id)
        with pytest.raises(FileNotFound):
            await store.delete(ALICE, kept[0].id)
    assert on_disk(folder) == []


async def test_of_many_who_delete_a_file_one_has(store: Files) -> None:
    file = await keep(store)
    outcomes = await asyncio.gather(*(store.delete(ALICE, file.id) for _ in range(8)), return_exceptions=True)
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, FileNotFound) for outcome in outcomes) == 7


@pytest.mark.parametrize("sort_by", ["created_at", "filename", "size"])
@pytest.mark.parametrize("ascending", [True, False])
async def test_pages_go_on_where_the_one_before_ended_also_if_its_files_are_gone(
    store: Files, sort_by: str, ascending: bool
) -> None:
    for name, size in (("c", 1), ("a", 2), ("d", 2), ("b", 0)):
        await keep(store, b"x" * size, name)
    order = {"created_at": "cadb", "filename": "abcd", "size": "bcad"}[sort_by]
    order = order if ascending else order[::-1]
    whole = await store.page(ALICE, FileOrder(sort_by=sort_by, ascending=ascending))
    assert (sorted(file.filename for file in whole.files), whole.token) == (list("abcd"), None)
    if sort_by != "size":
        assert [file.filename for file in whole.files] == list(order)
    seen, token = [], None
    for number in range(4):
        page = await store.page(ALICE, FileOrder(1, sort_by, ascending, token=token))
        [file] = page.files
        assert file == whole.files[number]
        seen.append(file.filename)
        await store.delete(ALICE, file.id)
        token = page.token
    assert (sorted(seen), token) == (list("abcd"), None)


async def test_after_and_purpose_choose_from_a_list(store: Files) -> None:
    first, second, third = [await keep(store, name=name) for name in "abc"]
    assert await names(store, FileOrder(after=second.id)) == ["a"]
    assert await names(store, FileOrder(after=first.id, ascending=True)) == ["b", "c"]
    assert await names(store, FileOrder(after=third.id, sort_by="filename")) == ["b", "a"]
    assert await names(store, FileOrder(purpose="test")) == ["c", "b", "a"]
    assert await names(store, FileOrder(purpose="batch")) == []


FILTERS = {
    'name = "a"': "a",
    'file_name != "a"': "bc",
    "size_bytes >= 2 AND size_bytes<3": "b",
    " size_bytes > 0 AND expires_at = null ": "ab",
    "expires_at != null": "c",
    'created_at <= "2027-01-13T13:00:00+01:00"': "abc",
    'created_at > "2027-01-13T12:00:00Z"': "",
    'expires_at > "2027-01-13T12:59:59.5Z"': "c",
    r'name = "\\a" AND size_bytes = 1': "",
}


@pytest.mark.parametrize("asked", FILTERS)
async def test_a_filter_lets_through_what_it_says(store: Files, asked: str) -> None:
    await keep(store, b"x", "a")
    await keep(store, b"xx", "b")
    await keep(store, b"xxx", "c", term=3600)
    assert await names(store, FileOrder(filter=asked, sort_by="filename", ascending=True)) == list(FILTERS[asked])
    page = await store.page(ALICE, FileOrder(1, filter="size_bytes > 1", purpose="test"))
    assert await names(store, FileOrder(1, filter="size_bytes > 1", purpose="test", token=page.token)) == ["b"]


WRONG_ORDERS = {
    "limit": [FileOrder(0), FileOrder(-1), FileOrder(10_001)],
    "filter": [
        FileOrder(filter=asked)
        for asked in (
            *(
                "x",
                "name",
                "name =",
                "name = a",
                "name = 5",
                'size_bytes = "5"',
                "size_bytes < null",
                "size_bytes = 1e3",
            ),
            *("name = null AND", "name = null OR name = null", "(name = null)", "-name = null", "created_at > 5"),
            *('created_at > "today"', 'created_at > "2027-01-13T12:00:00"', "size_bytes = 99999999999999999999"),
            *('purpose = "x"', "name = null; DROP TABLE files", 'name = "a" ' + "AND name = null " * 100),
        )
    ],
    "after": [FileOrder(after="file_0", sort_by="size")],
    "pagination_token": [FileOrder(token=token) for token in ("x", "ø", "k6RzaXplAaE", "gA", "a" * 999, "gqFh")],
}


@pytest.mark.parametrize("param", WRONG_ORDERS)
async def test_a_page_that_cannot_be_found_is_refused_by_name(store: Files, param: str) -> None:
    await keep(store, b"", "a")
    await keep(store, b"", "b")
    token = (await store.page(ALICE, FileOrder(1, "size"))).token
    orders = [*WRONG_ORDERS[param], *([FileOrder(token=token, sort_by="filename")] * (param == "pagination_token"))]
    for order in orders:
        with pytest.raises(InvalidRequest) as refused:
            await store.page(ALICE, order)
        assert refused.value.param == param


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\0b", "\u2028", "\ud800", "x" * 256])
async def test_a_name_that_is_none_is_refused_before_anything_is_written(store: Files, folder: Path, name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await keep(store, name=name)
    assert refused.value.param == "filename"
    assert on_disk(folder) == []


@pytest.mark.parametrize("term", [-1, 0, 3599, 2_592_001, 2**63])
async def test_a_term_beyond_its_bounds_is_refused_and_leaves_nothing(store: Files, folder: Path, term: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await keep(store, term=term)
    assert refused.value.param == "expires_after"
    assert on_disk(folder) == []
    for _ in range(4):
        await keep(store, term=3600)


async def test_a_file_is_gone_at_its_term_and_pruned_later(store: Files, clock: SteppedClock, folder: Path) -> None:
    file, other = await keep(store, term=3600), await keep(store)
    clock.step(HOUR - SECOND)
    assert await held(store, file.id) == b"hello"
    clock.step(SECOND)
    with pytest.raises(FileNotFound):
        await store.find(ALICE, file.id)
    assert [one.id for one in (await store.page(ALICE, FileOrder())).files] == [other.id]
    await store.prune()
    assert on_disk(folder) == [other.id]


async def test_whose_term_is_over_does_not_stand_in_the_way_of_others(store: Files, clock: SteppedClock) -> None:
    for _ in range(4):
        await keep(store, term=3600)
    clock.step(HOUR)
    await keep(store)


async def test_a_file_that_is_too_large_leaves_nothing(
    store: Files, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGEST_BYTES", 1000)
    await keep(store, b"x" * 1000)
    [kept] = on_disk(folder)
    with pytest.raises(RequestTooLarge):
        await keep(store, b"x" * 1001)
    assert on_disk(folder) == [kept]


async def test_all_files_together_stay_within_their_bound_also_in_parallel(store: Files, folder: Path) -> None:
    async with AsyncExitStack() as stack:
        uploads = [await stack.enter_async_context(store.upload(ALICE, name)) for name in "abcd"]
        with pytest.raises(FilesFull, match="4 of 4"):
            await keep(store)
        full = 0
        for _ in range(4):
            for upload in uploads:
                try:
                    await upload.write(b"x" * 100_000)
                except FilesFull:
                    full += 1
        assert full == 6, "ten pieces of 100,000 bytes fit into a megabyte"
        await keep(store, owner=CHARLIE)
    assert len(on_disk(folder)) == 1
    await keep(store, b"x" * 1_000_000)


async def test_only_so_many_uploads_run_at_once(store: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_AT_ONCE", 2)
    async with store.upload(ALICE, "a"), store.upload(ALICE, "b"):
        with pytest.raises(RateLimited) as refused:
            await keep(store)
        assert refused.value.retry_after_seconds == 1
    await keep(store)


async def test_what_is_there_is_counted_after_a_restart(
    store: Files, database: Database, folder: Path, clock: SteppedClock
) -> None:
    for _ in range(4):
        await keep(store)
    again = Files(database, FileContents(folder, Sealer(b"s" * 32)), MOST, clock)
    with pytest.raises(FilesFull):
        await keep(again)
    await again.close(30)


async def test_an_upload_that_is_left_leaves_nothing(store: Files, folder: Path) -> None:
    for _ in range(5):
        async with store.upload(ALICE, "a") as upload:
            await upload.write(b"x" * PIECE_BYTES)
            assert len(on_disk(folder)) == 1
    assert on_disk(folder) == []
    assert (await store.page(ALICE, FileOrder())).files == ()


async def test_a_full_disk_is_unavailable_and_leaves_nothing(
    store: Files, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Space(1, 1, 100))
    for _ in range(5):
        with pytest.raises(Unavailable, match="no room"):
            await keep(store)
    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert on_disk(folder) == []
    await keep(store)


async def test_books_that_cannot_be_written_keep_no_file(store: Files, folder: Path, commits: Commits) -> None:
    commits.refusals = 5
    for _ in range(5):
        with pytest.raises(DatabaseUnusable):
            await keep(store)
    assert on_disk(folder) == []
    file = await keep(store)
    assert on_disk(folder) == [file.id]


async def test_a_kill_between_content_and_row_leaves_what_the_next_start_removes(
    store: Files, folder: Path, commits: Commits, clock: SteppedClock, tmp_path: Path
) -> None:
    whole = await keep(store)
    commits.let_wait()
    keeping = asyncio.create_task(keep(store, name="b"))
    await commits.one_waits()
    [content] = set(on_disk(folder)) - {whole.id}
    assert not content.endswith(".part"), "it is whole before its row is committed"
    after = tmp_path / "after"
    shutil.copytree(folder, after / "files")
    for path in tmp_path.glob("leadline.db*"):
        shutil.copy(path, after / path.name)
    (after / "files" / "file_0.part").write_bytes(b"half")
    commits.let_go()
    await keeping

    database = Database(after / "leadline.db")
    again = Files(database, FileContents(after / "files", Sealer(b"s" * 32)), MOST, clock)
    assert [file.id for file in (await again.page(ALICE, FileOrder())).files] == [whole.id]
    await again.clean()
    assert on_disk(after / "files") == [whole.id]
    assert await held(again, whole.id) == b"hello"
    await again.close(30)
    await database.close()


async def test_cleaning_spares_what_is_being_uploaded(store: Files, folder: Path, commits: Commits) -> None:
    async with store.upload(ALICE, "a") as upload:
        await upload.write(b"hello")
        await store.clean()
        commits.let_wait()
        keeping = asyncio.create_task(upload.keep())
        await commits.one_waits()
        await store.clean()
        commits.let_go()
        file = await keeping
    await store.clean()
    assert await held(store, file.id) == b"hello"


async def test_who_is_cut_short_while_the_row_is_written_leaves_a_whole_file(store: Files, commits: Commits) -> None:
    commits.let_wait()
    keeping = asyncio.create_task(keep(store))
    await commits.one_waits()
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    commits.let_go()
    await store.close(30)
    [file] = (await store.page(ALICE, FileOrder())).files
    assert file.size_bytes == 5
    assert store.uploading == set()


async def test_a_damaged_content_is_not_given_out_and_is_logged(
    store: Files, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = await keep(store, bytes(2 * PIECE_BYTES + 9))
    sealed = bytearray((folder / file.id).read_bytes())
    sealed[-1] ^= 1
    (folder / file.id).write_bytes(sealed)
    caplog.set_level(logging.ERROR, "leadline.files")
    with pytest.raises(FileDamaged):
        async with store.open(ALICE, file.id):
            pytest.fail("it was given out")
    assert [record.file_id for record in caplog.records] == [file.id]


async def test_a_content_that_somebody_took_away_is_not_there(store: Files, folder: Path) -> None:
    file = await keep(store)
    (folder / file.id).unlink()
    with pytest.raises(FileNotFound, match="not on this server"):
        await held(store, file.id)
    await store.delete(ALICE, file.id)


async def test_who_reads_a_file_reads_on_when_it_is_deleted(store: Files) -> None:
    file = await keep(store)
    async with store.open(ALICE, file.id) as content:
        await store.delete(ALICE, file.id)
        assert [piece async for piece in content.pieces()] == [b"hello"]


TEXTS = {
    "plain": (b"one\ntwo\r\n\tthree\x0c", "one\ntwo\r\n\tthree\x0c"),
    "not ASCII": ("grün 日本 🎈".encode(), "grün 日本 🎈"),
    "marked": (b"\xef\xbb\xbf{}", "{}"),
    "empty": (b"", ""),
}


@pytest.mark.parametrize("what", TEXTS)
async def test_a_text_is_read(store: Files, what: str) -> None:
    content, text = TEXTS[what]
    file = await keep(store, content)
    async with store.open(ALICE, file.id) as opened:
        assert await text_of(opened) == text


NO_TEXTS = {
    "an image": b"\x89PNG\r\n\x1a\n",
    "UTF-16": "hi".encode("utf-16"),
    "a PDF": b"%PDF-1.7\nhello",
    "zeros": b"a\0",
}


@pytest.mark.parametrize("what", NO_TEXTS)
async def test_what_is_no_text_is_refused_with_what_can_be_read(store: Files, what: str) -> None:
    file = await keep(store, NO_TEXTS[what])
    async with store.open(ALICE, file.id) as opened:
        with pytest.raises(InvalidRequest, match="Markdown") as refused:
            await text_of(opened)
    assert refused.value.param == "file_id"


async def test_too_much_text_is_refused(store: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_texts, "LARGEST_TEXT_BYTES", 4)
    file = await keep(store)
    async with store.open(ALICE, file.id) as opened:
        with pytest.raises(InvalidRequest, match="5 bytes"):
            await text_of(opened)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\n", [b"a"]),
        (b"a\r\n\nb", [b"a", b"", b"b"]),
        (b"x" * 300_000 + b"\n" + b"y" * 300_000, [b"x" * 300_000, b"y" * 300_000]),
    ],
)
async def test_lines_are_whole_wherever_pieces_end(store: Files, content: bytes, lines: list[bytes]) -> None:
    file = await keep(store, content)
    async with store.open(ALICE, file.id) as opened, aclosing(lines_of(opened)) as read:
        assert [line async for line in read] == lines


async def test_a_line_that_is_too_long_is_refused_by_its_number(store: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_texts, "LONGEST_LINE_BYTES", 4)
    file = await keep(store, b"one\nfour\nfive!\n")
    async with store.open(ALICE, file.id) as opened, aclosing(lines_of(opened)) as read:
        assert [await anext(read), await anext(read)] == [b"one", b"four"]
        with pytest.raises(InvalidRequest, match="Line 3"):
            await anext(read)
