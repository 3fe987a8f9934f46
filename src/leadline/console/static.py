"""What pages load: styles, scripts, fonts and icons, kept in memory and served under a digest of all of them.

The digest stands in the path, so a file never changes under its URL, and files find each other by relative names.
"""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from leadline.console.icons import sprite

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}
_COMPRESSED_ALREADY = (".woff2",)
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is served: its bytes, and the same ones compressed where that is worth it."""

    media_type: str
    etag: str
    body: bytes
    gzipped: bytes | None

    @classmethod
    def of(cls, name: str, body: bytes) -> "Asset":
        ending = _ending(name)
        gzipped = None if ending in _COMPRESSED_ALREADY else gzip.compress(body, 9, mtime=0)
        return cls(_TYPES[ending], hashlib.sha256(body).hexdigest()[:20], body, gzipped)


class Assets:
    """All files that pages load, by their names."""

    def __init__(self, bodies: Mapping[str, bytes]) -> None:
        self._assets = {name: Asset.of(name, body) for name, body in bodies.items()}
        every = hashlib.sha256()
        for name, asset in sorted(self._assets.items()):
            every.update(f"{name} {asset.etag}\n".encode())
        self.digest = every.hexdigest()[:12]

    def url(self, name: str) -> str:
        """Where a file is. KeyError where there is none of this name, so that a page fails at once and not silently."""
        self._assets[name]
        return f"/static/{self.digest}/{name}"

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answers `/static/<digest>/<name>`."""
        await self._answer(Request(scope))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("Files are only read.", 405, {"allow": "GET, HEAD"})
        digest, _, name = request.url.path.removeprefix("/static/").partition("/")
        asset = self._assets.get(name)
        if asset is None:
            return PlainTextResponse("There is no such file.", 404, {"cache-control": "no-store", **_SAFE})
        gzipped = asset.gzipped if _takes_gzip(request) else None
        etag = f'"{asset.etag}{"-gzip" if gzipped is not None else ""}"'
        # A page of the release before may still ask: it gets today's file, which must not stay under its URL.
        headers = {"etag": etag, "cache-control": _FOREVER if digest == self.digest else "no-cache", **_SAFE}
        if asset.gzipped is not None:
            headers["vary"] = "accept-encoding"
        if etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        if gzipped is not None:
            headers["content-encoding"] = "gzip"
        body = asset.body if gzipped is None else gzipped
        headers["content-length"] = str(len(body))
        return Response(b"" if request.method == "HEAD" else body, headers=headers, media_type=asset.media_type)


_SAFE = {"x-content-type-options": "nosniff", "cross-origin-resource-policy": "same-origin"}


def _takes_gzip(request: Request) -> bool:
    codings = (coding.partition(";") for coding in request.headers.get("accept-encoding", "").split(","))
    return any(name.strip() == "gzip" and weight.strip() not in ("q=0", "q=0.0") for name, _, weight in codings)


def _ending(name: str) -> str:
    return name[name.rindex(".") :] if "." in name else ""


def _served(folder: Traversable, path: str = "") -> Iterator[tuple[str, bytes]]:
    """The files of a folder whose type is known: licences and lists lie there as well, and stay there."""
    for file in folder.iterdir():
        if file.is_dir():
            yield from _served(file, f"{path}{file.name}/")
        elif _ending(file.name) in _TYPES:
            yield path + file.name, file.read_bytes()


ICONS, _SPRITE = sprite()
ASSETS = Assets({**dict(_served(files("leadline.console").joinpath("static"))), "icons.svg": _SPRITE})


async def serve_static(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application for paths below `/static/`."""
    await ASSETS(scope, receive, send)
