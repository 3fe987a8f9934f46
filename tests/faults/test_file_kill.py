"""`kill -9` of the server in the middle of uploads and deletions: what a client was told is there, whole; what is
listed can be fetched; and what nobody was told of leaves nothing behind once the server has tidied up."""

import asyncio
import random
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cli.process import NO_MODEL, Serving, environment, init
from tests.proof import count, keep
from tests.raw import request, upload

pytestmark = pytest.mark.slow

CLIENTS = 8
ROUNDS_PER_FOLDER = 10
# A bug that is planted: the row is committed first, and its content is long in coming, so that a kill meets one.
ROW_FIRST = """
import asyncio
from leadline.serving import files

async def keep(upload, purpose, expires_after_seconds):
    file = files.File(upload._file.id, upload._file.filename, "", upload._size_bytes, "", 1, None)
    await upload._files.database.commit(files.insertion(upload._organisation_id, file))
    await asyncio.sleep(0.05)
    await upload._files.contents.written(upload._writer.finish)
    upload._end()
    return file

files.Upload._keep = keep
"""
DEADLINE_SECONDS = 60


@dataclass
class Told:
    """By the ids of files: the digests of those that were acknowledged and not asked to be deleted. `doubtful` are
    those whose deletion was asked for; of the `deleted` ones it was acknowledged."""

    kept: dict[str, str] = field(default_factory=dict)
    doubtful: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)


def work(port: int, key: str, told: Told, rng: random.Random, stopped: threading.Event) -> None:
    """Upload, and now and then delete, until the server is gone."""
    with suppress(OSError, AssertionError, ValueError, IndexError):
        while not stopped.is_set():
            content = rng.randbytes(rng.choice((0, 1000, 300_000, 2_000_000)))
            made = upload(port, key, "a.bin", content)
            if made.status != 200:
                continue
            file_id = made.json["id"]
            told.kept[file_id] = sha256(content).hexdigest()
            if rng.random() < 0.4:
                del told.kept[file_id]
                told.doubtful.add(file_id)
                gone = request(port, "DELETE", f"/v1/files/{file_id}", x_api_key=key, content_length="0")
                if gone.status == 200:
                    told.deleted.add(file_id)


async def start(data: Path, plant: str = "") -> tuple[Serving, int]:
    """`leadline serve`, with a bug where one is planted."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", f"{plant}\nfrom leadline.cli.main import main\nmain()"),
        *("serve", "--data", str(data), "--port", "0", "--json"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=environment(),
    )
    server = Serving(process)
    return server, int((await server.event("serving"))["base_url"].rpartition(":")[2])


async def look(port: int, key: str, told: Told, folder: Path) -> list[str]:
    """What is wrong after a start."""

    def listed() -> set[str]:
        answer = request(port, "GET", "/v1/files?limit=10000", x_api_key=key)
        return {file["id"] for file in answer.json["data"]}

    there = await asyncio.to_thread(listed)
    wrong = [f"{file_id} is lost" for file_id in told.kept.keys() - there]
    wrong += [f"{file_id} is back" for file_id in told.deleted & there]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while {path.name for path in folder.iterdir()} - there:
            await asyncio.sleep(0.01)
    wrong += [f"{file_id} has no content" for file_id in there - {path.name for path in folder.iterdir()}]
    for file_id in there:
        content = await asyncio.to_thread(request, port, "GET", f"/v1/files/{file_id}/content", x_api_key=key)
        digest = sha256(content.body).hexdigest()
        if content.status != 200 or told.kept.setdefault(file_id, digest) != digest:
            wrong.append(f"{file_id} is damaged")
    return wrong


async def stop_amid_an_upload(server: Serving, folder: Path) -> None:
    """Let it run until it can be stopped with half a file on the disk."""
    state = Path(f"/proc/{server.process.pid}/stat")
    while True:
        server.process.send_signal(signal.SIGSTOP)
        while state.read_text().rpartition(")")[2].split()[0] != "T":
            await asyncio.sleep(0)
        if any(path.suffix == ".part" for path in folder.iterdir()):
            return
        server.process.send_signal(signal.SIGCONT)
        await asyncio.sleep(0.001)


async def lives(data: Path, rounds: int, plant: str = "") -> tuple[list[str], Told, int]:
    """What is wrong after so many kills, what clients were told, and how many kills left half a file."""
    data.mkdir()
    (data / "leadline.toml").write_text(NO_MODEL + "[files]\nper_organisation = 0\nmegabytes_per_organisation = 0\n")
    key = (await asyncio.to_thread(init, data)).json["api_key"]
    rng, told, halves = random.Random(7), Told(), 0
    wrong: list[str] = []
    server, port = await start(data, plant)
    for _ in range(rounds):
        killed = threading.Event()
        working = [
            asyncio.create_task(asyncio.to_thread(work, port, key, told, random.Random(rng.random()), killed))
            for _ in range(CLIENTS)
        ]
        until = len(told.kept) + rng.randint(3, 30)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while len(told.kept) < until:
                await asyncio.sleep(0.001)
            await stop_amid_an_upload(server, data / "files")
        server.process.kill()
        killed.set()
        await asyncio.gather(server.process.wait(), *working)
        halves += any(path.suffix == ".part" for path in (data / "files").iterdir())
        server, port = await start(data, plant)
        wrong += await look(port, key, told, data / "files")
    assert await server.stop() == 0
    return wrong, told, halves


async def test_what_was_acknowledged_is_there_after_a_kill_and_nothing_else_stays(tmp_path):
    rounds = count(4, 100)
    wrong: list[str] = []
    kept = deleted = halves = 0
    for first in range(0, rounds, ROUNDS_PER_FOLDER):
        found, told, met = await lives(tmp_path / f"{first}", min(ROUNDS_PER_FOLDER, rounds - first))
        wrong += found
        kept, deleted, halves = kept + len(told.kept), deleted + len(told.deleted), halves + met
    keep("file_kill", rounds=rounds, kept=kept, deleted=deleted, halves=halves, wrong=len(wrong))
    assert not wrong, wrong[:20]
    assert halves == rounds, "a kill met no upload"


async def test_a_row_that_is_committed_before_its_content_is_found(tmp_path):
    wrong, _, _ = await lives(tmp_path / "planted", 4, ROW_FIRST)
    assert any("has no content" in one for one in wrong)
