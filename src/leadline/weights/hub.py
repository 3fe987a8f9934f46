"""Brings weights from the Hugging Face Hub, or a server that speaks as it does, into the store.

A child process (`fetch.py`) downloads into the store's folder of parts, where what came stays until it is whole: the
same pull goes on with it. Only files that have the hub's own SHA-256 come out of there.
"""

import asyncio
import json
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadline.weights.pull import Progress, Report
from leadline.weights.store import PullFailed, Store, WeightsUnusable, is_name, name_from

# A download is as long as it is; one that is silent for so long has ended.
_STALL_SECONDS = 120.0
_LONGEST_LINE_BYTES = 1 << 20
_REPOSITORY = r"(?P<repository>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)"
_WITH_FILE = re.compile(rf"{_REPOSITORY}/(?P<file>.+\.gguf)", re.IGNORECASE)
_WITH_QUANTISATION = re.compile(rf"{_REPOSITORY}(:(?P<quantisation>[\w.-]+))?")
_ON_HUB = "hf:"

_SENTENCES = {
    "no repository": "there is no such repository, or it is private. Check the name, or set HF_TOKEN",
    "gated": "its owner asks for consent to terms. Agree on the repository's page, then set HF_TOKEN",
    "no checksum": "the hub tells no checksum of this file, so that it cannot be trusted",
    "busy": "another pull of the same file is running",
    "full": "the disk is too full. Free some space, then try again",
    "offline": "HF_HUB_OFFLINE is set",
    "unreachable": "the hub could not be reached, or the connection to it broke",
    "too large": "it is too large to be downloaded in one piece. Choose a smaller or a split one",
    "silent": f"nothing came for {_STALL_SECONDS:.0f} seconds",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """A GGUF file on the hub: by its name, or the one of a quantisation; else one that suits most machines."""

    repository: str
    file: str | None = None
    quantisation: str | None = None

    def __str__(self) -> str:
        more = f"/{self.file}" if self.file else f":{self.quantisation}" if self.quantisation else ""
        return f"{_ON_HUB}{self.repository}{more}"


@dataclass(frozen=True, slots=True)
class Hub:
    """`endpoint` None: the environment's HF_ENDPOINT, else the public hub. Its token is the environment's too."""

    endpoint: str | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    file: str
    size_bytes: int
    sha256: str
    projector: bool = False


def reference(text: str) -> Reference | None:
    """`hf:owner/repository/file.gguf`, `hf:owner/repository[:quantisation]` or the latter without `hf:`."""
    plain = text.removeprefix(_ON_HUB)
    if plain != text and (found := _WITH_FILE.fullmatch(plain)):
        return Reference(found["repository"], file=found["file"])
    found = _WITH_QUANTISATION.fullmatch(plain)
    if found is None or plain.lower().endswith(".gguf"):
        return None
    return Reference(found["repository"], quantisation=found["quantisation"])


async def pull_from_hub(store: Store, hub: Hub, wanted: Reference, name: str | None, progress: Report) -> Path:
    """The wanted file in the store, under `name` or one made from its own, with the projector that makes it see where
    the repository has one. PullFailed says why not."""
    if there := await asyncio.to_thread(store.pulled_from, str(wanted)):
        return there
    try:
        folder = await asyncio.to_thread(store.parts)
    except OSError as error:
        raise _failed(wanted, {"failed": "disk", "errno": error.errno}) from error
    parts: list[_Part] = []
    total_bytes = 0
    progress(Progress("downloading", 0, 0))
    async with aclosing(_told(hub, wanted, folder)) as lines:
        async for told in lines:
            if "parts" in told:
                parts = [_Part(**part) for part in told["parts"]]
                total_bytes = sum(part.size_bytes for part in parts)
                name = await asyncio.to_thread(_free_name, store, name, parts)
            elif "done" in told:
                progress(Progress("downloading", told["done"], total_bytes))
            elif "failed" in told:
                raise _failed(wanted, told)
    progress(Progress("checking", total_bytes, total_bytes))
    assert name is not None, "the child tells of its parts before it ends well"
    return await asyncio.to_thread(_keep, store, name, wanted, parts, folder)


def _free_name(store: Store, name: str | None, parts: list[_Part]) -> str:
    """The name to keep it under. PullFailed where other weights have it."""
    name = name or name_from(Path(parts[0].file))
    if not is_name(name):
        raise PullFailed(f"{name!r} cannot be a name of weights. Use up to 100 of a-z, 0-9, '.', '_' and '-'.")
    there, parts = store.path(name), [part for part in parts if not part.projector]
    if there is not None and [store.digest_of(file) for file in store.files(there)] != [part.sha256 for part in parts]:
        raise PullFailed(f"There are other weights named {name!r}. Give these another name: --name NAME.")
    return name


def _keep(store: Store, name: str, wanted: Reference, parts: list[_Part], folder: Path) -> Path:
    files = [(folder / f"{part.sha256}.part", part.sha256) for part in parts]
    # It comes last.
    model, projector = (files[:-1], files[-1]) if parts[-1].projector else (files, None)
    try:
        return store.keep(name, model, str(wanted), projector)
    except WeightsUnusable as error:
        for file, _ in files:
            file.unlink(missing_ok=True)
        raise PullFailed(f"{wanted} could not be pulled. {error}") from error
    except OSError as error:
        raise _failed(wanted, {"failed": "disk", "errno": error.errno}) from error


async def _told(hub: Hub, wanted: Reference, folder: Path) -> AsyncGenerator[dict[str, Any], None]:
    """What the child tells, until it ends; it ends with us."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "leadline.weights.fetch"),
        env=_environment(hub),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        limit=_LONGEST_LINE_BYTES,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    question = {"repository": wanted.repository, "file": wanted.file, "quantisation": wanted.quantisation}
    ended = False
    try:
        process.stdin.write(json.dumps(question | {"folder": str(folder)}).encode() + b"\n")
        while not ended:
            try:
                async with asyncio.timeout(_STALL_SECONDS):
                    line = await process.stdout.readline()
            except TimeoutError:
                line = b'{"failed": "silent"}'
            told: dict[str, Any] = json.loads(line) if line else {"failed": "unknown", "kind": "end"}
            ended = "failed" in told or "fetched" in told
            yield told
    finally:
        await _end(process)


async def _end(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.kill()
    await process.communicate()


def _environment(hub: Hub) -> dict[str, str]:
    """The user's environment, for proxies, certificates and the hub's token, without our settings and secrets. Large
    files come over plain HTTP, which can be gone on with."""
    users = {name: value for name, value in os.environ.items() if not name.startswith("LEADLINE_")}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return users | quiet | ({"HF_ENDPOINT": hub.endpoint.rstrip("/")} if hub.endpoint else {})


def _failed(wanted: Reference, told: dict[str, Any]) -> PullFailed:
    reason = told["failed"]
    match reason:
        case "no file":
            names = ", ".join(told["names"])
            why = f"it has no such GGUF file. It has: {names}" if names else "it has no such GGUF file"
        case "status" if told["status"] == 429:
            why = "the hub asks to wait: too many requests. Try again later, or set HF_TOKEN"
        case "status" if told["status"] in (401, 404):
            why = _SENTENCES["no repository"]
        case "status" if told["status"] == 403:
            why = "the hub refuses it. Check HF_TOKEN"
        case "status":
            why = f"the hub answered with status {told['status']}. Try again later"
        case "disk":
            why = f"the disk refused it ({os.strerror(told['errno'])})"
        case "unknown":
            why = "the library that asks the hub failed"
        case _:
            why = _SENTENCES[reason]
    kept = " What came is kept: the same command goes on with it." if reason in ("unreachable", "silent") else ""
    return PullFailed(f"{wanted} could not be pulled: {why}.{kept}")
