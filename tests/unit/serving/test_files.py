"""Files: kept whole or not at all, within their bounds, for their organisation alone."""

import asyncio
import errno
import logging
import os
import shutil
from collections import namedtuple
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from leadline.errors import (
    FileDamaged,
    FileNotFound,
    FilesFull,
    InvalidRequest,
    RateLimited,
    RequestTooLarge,
    Unavailable,
)
from leadline.serving import files
from leadline.serving.file_contents import FileContents
from leadline.serving.file_rows import FileOrder
from leadline.serving.files import Files
from leadline.storage.database import Database, DatabaseUnusable
from leadline.storage.sealed import Sealer
from leadline.storage.sealed_pieces import PIECE_BYTES
from tests.unit.conftest import Commits
from tests.unit.ledger.scenes import HOUR, SECOND, SteppedClock
from tests.unit.serving.file_scenes import ALICE, CHARLIE, MOST, held, keep

Space = namedtuple("Space", "total used free")


def on_disk(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


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


@pytest.mark.parametrize("fails", ["fsync", "replace"])
async def test_a_disk_that_fails_at_the_end_keeps_no_file(
    store: Files, folder: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, fail)
        for _ in range(5):
            with pytest.raises(Unavailable, match="no room"):
                await keep(store)
    assert on_disk(folder) == []
    assert (await store.page(ALICE, FileOrder())).files == ()
    await keep(store)


async def test_books_that_cannot_be_written_keep_no_file(store: Files, folder: Path, commits: Commits) -> None:
    commits.refusals = 5
    for _ in range(5):
        with pytest.raises(DatabaseUnusable):
            await keep(store)
    assert on_disk(folder) == []
    file = await keep(store)
    assert on_disk(folder) == [file.id]


@pytest.mark.usefixtures("database_path")
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
