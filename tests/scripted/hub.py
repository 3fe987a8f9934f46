"""A stand-in for the Hugging Face Hub: what its own library asks of it, over real HTTP, with faults that a test
chooses."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "c0ffee" + "0" * 34
DEADLINE_SECONDS = 30


@dataclass
class Asked:
    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class ScriptedHub:
    """`files` by repository and name. Content comes from another host than the hub's own, as from its network of
    caches. `digests` are told in place of the true ones; `statuses` are answered to paths that hold a word; the next
    answers with content break off after so many bytes, or stand still there until `go_on`."""

    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    gated: bool = False
    token: str | None = None
    cuts: list[int] = field(default_factory=list)
    stalls: list[int] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)
    asked: list[Asked] = field(default_factory=list)
    url: str = ""

    @contextmanager
    def served(self) -> "Iterator[ScriptedHub]":
        hub = self

        class Handler(_Handler):
            scripted = hub

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            self.url = f"http://127.0.0.1:{server.server_port}"
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            try:
                yield self
            finally:
                self.go_on.set()
                server.shutdown()
                thread.join()

    def ranges(self) -> list[str | None]:
        """What of the content was asked for, one after the other."""
        return [one.range for one in self.asked if one.path.startswith("/content/")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    scripted: ScriptedHub

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.scripted, unquote(self.path.partition("?")[0])
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ") or None
        hub.asked.append(Asked(self.command, path, self.headers.get("range"), token))
        for word, status in hub.statuses.items():
            if word in path:
                return self._send(status, {})
        if path.startswith("/content/"):
            return self._content(path.removeprefix("/content/"))
        if hub.token is not None and token != hub.token:
            return self._send(401, {})
        if hub.gated and "resolve" in path:
            return self._send(403, {"X-Error-Code": "GatedRepo"})
        if path.startswith("/api/models/"):
            return self._model("/".join(path.removeprefix("/api/models/").split("/")[:2]))
        return self._resolve(*path.lstrip("/").split("/resolve/", 1))

    def _model(self, repository: str) -> None:
        if repository not in self.scripted.files:
            return self._send(404, {"X-Error-Code": "RepoNotFound"})
        siblings = [{"rfilename": name} for name in ("README.md", *self.scripted.files[repository])]
        body = {"id": repository, "modelId": repository, "sha": COMMIT, "siblings": siblings, "tags": []}
        return self._send(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _resolve(self, repository: str, rest: str = "") -> None:
        file = rest.partition("/")[2]
        content = self.scripted.files.get(repository, {}).get(file)
        if content is None:
            return self._send(404, {"X-Error-Code": "EntryNotFound"})
        digest = self.scripted.digests.get(file, hashlib.sha256(content).hexdigest())
        told = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{digest}"', "X-Linked-Size": str(len(content))}
        elsewhere = self.scripted.url.replace("127.0.0.1", "localhost")
        return self._send(302, told | {"Location": f"{elsewhere}/content/{repository}/{file}"})

    def _content(self, place: str) -> None:
        hub, (owner, name, file) = self.scripted, place.split("/", 2)
        content = hub.files[f"{owner}/{name}"][file]
        start = int((self.headers.get("range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        content = content[start:]
        if hub.cuts:
            self.wfile.write(content[: hub.cuts.pop(0)])
            self.close_connection = True
            return
        if hub.stalls:
            before = hub.stalls.pop(0)
            self.wfile.write(content[:before])
            self.wfile.flush()
            hub.stalled.set()
            hub.go_on.wait(DEADLINE_SECONDS)
            content = content[before:]
        try:
            self.wfile.write(content)
        except ConnectionError:
            self.close_connection = True

    def _send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
