"""The child process that talks to the hub: `python -m leadline.weights.fetch`. It finds GGUF files in a repository of
the Hugging Face Hub, or of a server that speaks as it does, and downloads them.

One JSON line of what to fetch comes in on standard input; JSON lines of `parts`, of `done` bytes and at last `fetched`,
or one `failed` with its facts, go out. It may be killed at any time: the next one goes on where it was. What it fetched
is for the parent to check. It imports nothing else of Leadline.
"""

import fcntl
import json
import os
import re
import shutil
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

_PART_OF_SPLIT = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Where nobody names a quantisation: the first of these that there is, good for its size.
_QUANTISATIONS = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q4_1", "Q5_K_M", "Q6_K", "Q8_0", "BF16", "F16")
# Projectors are small, and suffer when they are made smaller.
_PROJECTORS = ("F16", "BF16", "Q8_0", "F32")
_REPORT_SECONDS = 0.1
_CHUNK_BYTES = 1 << 20
_NAMES_TOLD = 20


class Failed(Exception):
    """`facts` go to the parent, which has the words."""

    def __init__(self, reason: str, **facts: Any) -> None:
        super().__init__(reason)
        self.facts = {"failed": reason, **facts}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the model, or its `projector`. `url` is the hub's own: it leads on to the content, for a while."""

    file: str
    size_bytes: int
    sha256: str
    url: str
    projector: bool = False


def main() -> None:
    wanted = json.loads(sys.stdin.readline())
    try:
        _fetch(wanted["repository"], wanted["file"], wanted["quantisation"], Path(wanted["folder"]))
    except Exception as error:
        _tell(**_facts(error))
        sys.exit(1)
    _tell(fetched=True)


def _fetch(repository: str, file: str | None, quantisation: str | None, folder: Path) -> None:
    from huggingface_hub import HfApi

    about = HfApi().model_info(repository, timeout=30.0)
    names = sorted(one.rfilename for one in about.siblings or () if one.rfilename.lower().endswith(".gguf"))
    chosen = _chosen(names, file, quantisation)
    parts = [_part(repository, name, about.sha) for name in chosen]
    if (name := _projector_for(chosen[0], names)) is not None:
        projector = replace(_part(repository, name, about.sha), projector=True)
        # The model itself by another name is no projector.
        parts += [projector] if projector.sha256 not in {part.sha256 for part in parts} else []
    _tell(parts=[{name: value for name, value in asdict(part).items() if name != "url"} for part in parts])
    there = sum(_there_bytes(folder / f"{part.sha256}.part") for part in parts)
    if shutil.disk_usage(folder).free < sum(part.size_bytes for part in parts) - there:
        raise Failed("full")
    before = 0
    for part in parts:
        _download(part, folder, before)
        before += part.size_bytes


def _chosen(names: list[str], file: str | None, quantisation: str | None) -> list[str]:
    """The file, or the first one of the quantisation, with all parts of a split model."""
    if file is not None:
        found = [name for name in names if name == file]
    else:
        wanted = _QUANTISATIONS if quantisation is None else (quantisation,)
        models = [name for name in names if not _is_projector(name)]
        found = [name for one in wanted for name in models if _is_of(name, one)]
        if quantisation is None and len(models) == 1:
            found = models
    if not found:
        raise Failed("no file", names=names[:_NAMES_TOLD])
    split = _PART_OF_SPLIT.fullmatch(found[0])
    if split is None:
        return found[:1]
    parts = [f"{split[1]}-{number:05}-of-{split[3]}.gguf" for number in range(1, int(split[3]) + 1)]
    if not set(parts) <= set(names):
        raise Failed("no file", names=names[:_NAMES_TOLD])
    return parts


def _projector_for(model: str, names: list[str]) -> str | None:
    """The projector that makes this model see, if there is one: beside it, or else above it; the best of several."""
    if _is_projector(model):
        return None
    for folder in (os.path.dirname(model), ""):
        beside = [name for name in names if _is_projector(name) and os.path.dirname(name) == folder]
        best = [name for one in _PROJECTORS for name in beside if _is_of(name, one)]
        if beside:
            return (best or beside)[0]
    return None


def _is_projector(name: str) -> bool:
    return "mmproj" in os.path.basename(name).lower()


def _is_of(name: str, quantisation: str) -> bool:
    """Whether the word stands in the file's name, as `Q4_K_M` does in `model.q4_k_m.gguf`."""
    return re.search(rf"(^|[^a-z0-9]){re.escape(quantisation)}([^a-z0-9_]|$)", name, re.IGNORECASE) is not None


def _part(repository: str, name: str, revision: str | None) -> Part:
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    url = hf_hub_url(repository, name, revision=revision)
    about = get_hf_file_metadata(url, timeout=30.0)
    if about.size is None or _SHA256.fullmatch(about.etag or "") is None:
        raise Failed("no checksum")
    return Part(name, about.size, cast(str, about.etag), url)


def _download(part: Part, folder: Path, before: int) -> None:
    """Go on with what is there of the file."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

    # What is read at once is lost when the connection breaks in its midst.
    constants.DOWNLOAD_CHUNK_SIZE = _CHUNK_BYTES
    path = folder / f"{part.sha256}.part"
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed("busy") from None
        if file.tell() > part.size_bytes:
            file.truncate(0)
        there_bytes = _there_bytes(path)
        told = _Told(file, before + there_bytes)
        http_get(
            part.url,
            cast(Any, told),
            resume_size=there_bytes,
            headers=build_hf_headers() | {"Accept-Encoding": "identity"},
            expected_size=part.size_bytes,
        )


def _there_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Told:
    """A file that tells how much was written. Where the server starts anew, so does the count."""

    def __init__(self, file: IO[bytes], done_bytes: int) -> None:
        self._file, self._done_bytes, self._told_at = file, done_bytes, 0.0
        self.seek, self.tell = file.seek, file.tell

    def write(self, piece: bytes) -> int:
        self._done_bytes += len(piece)
        if time.monotonic() - self._told_at > _REPORT_SECONDS:
            self._told_at = time.monotonic()
            _tell(done=self._done_bytes)
        return self._file.write(piece)

    def truncate(self) -> int:
        self._file.flush()
        before, after = os.fstat(self._file.fileno()).st_size, self._file.truncate()
        self._done_bytes -= before - after
        return after


def _facts(error: Exception) -> dict[str, Any]:
    """What an error means. The library's words stay here."""
    import httpx2
    from huggingface_hub import errors

    match error:
        case Failed():
            return error.facts
        case errors.GatedRepoError():
            return {"failed": "gated"}
        case errors.RepositoryNotFoundError() | errors.HFValidationError():
            return {"failed": "no repository"}
        case errors.EntryNotFoundError() | errors.RevisionNotFoundError():
            return {"failed": "no file", "names": []}
        case errors.OfflineModeIsEnabled():
            return {"failed": "offline"}
        case errors.HfHubHTTPError():
            return {"failed": "status", "status": error.response.status_code}
        case httpx2.HTTPError():
            return {"failed": "unreachable"}
        case OSError():
            return {"failed": "disk", "errno": error.errno} if error.errno else {"failed": "unreachable"}
        case ValueError():
            return {"failed": "too large"}
    return {"failed": "unknown", "kind": type(error).__name__}


def _tell(**facts: Any) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
