"""Raw HTTP/1.1 over a socket, for what no SDK would send, and for hanging up."""

import json
import socket
from dataclasses import dataclass
from typing import Any

DEADLINE_SECONDS = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """One connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), DEADLINE_SECONDS)
        self._received = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read_until(self, marker: bytes) -> bytes:
        """All that came up to and with `marker`."""
        while marker not in self._received:
            piece = self._socket.recv(65536)
            assert piece, f"the connection ended before {marker!r}: {self._received!r}"
            self._received += piece
        return self._received

    def read_to_end(self) -> bytes:
        while piece := self._socket.recv(65536):
            self._received += piece
        self._socket.close()
        return self._received

    def hang_up(self) -> None:
        self._socket.close()


def head(path: str, key: str | None, length: int, **headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", "Connection: close", f"Content-Length: {length}"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def open_post(port: int, path: str, key: str | None, body: dict[str, Any]) -> Raw:
    """Send a JSON request and leave the answer to the caller."""
    raw, encoded = Raw(port), json.dumps(body).encode()
    raw.send(head(path, key, len(encoded), content_type="application/json") + encoded)
    return raw


def post(port: int, path: str, key: str | None, body: bytes, **headers: str) -> Answer:
    headers = {"content_type": "application/json"} | headers
    return _answer(port, head(path, key, len(body), **headers) + body)


def upload(port: int, key: str | None, filename: str, held: bytes, **fields: str) -> Answer:
    """A file in a form, behind its other fields."""
    parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
    parts.append(f'name="file"; filename="{filename}"\r\n\r\n'.encode() + held)
    return post_form(port, key, parts)


def post_form(port: int, key: str | None, parts: list[bytes]) -> Answer:
    """Each part from behind its `Content-Disposition: form-data; ` on."""
    body = b"".join(b"--b\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return post(port, "/v1/files", key, body, content_type="multipart/form-data; boundary=b")


def request(port: int, method: str, path: str, **headers: str) -> Answer:
    lines = [f"{method} {path} HTTP/1.1", "Host: test", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return _answer(port, ("\r\n".join(lines) + "\r\n\r\n").encode())


def _answer(port: int, sent: bytes) -> Answer:
    raw = Raw(port)
    try:
        raw.send(sent)
        return parse(raw.read_to_end())
    finally:
        raw.hang_up()


def parse(received: bytes) -> Answer:
    top, _, body = received.partition(b"\r\n\r\n")
    first, *rest = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in rest)}
    if headers.get("transfer-encoding") == "chunked":
        body = _joined(body)
    return Answer(int(first.split()[1]), headers, body)


def _joined(chunks: bytes) -> bytes:
    """A body that came in chunks; the last one may be cut off."""
    pieces = []
    while chunks:
        size, _, rest = chunks.partition(b"\r\n")
        length = int(size or b"0", 16)
        pieces.append(rest[:length])
        chunks = rest[length + 2 :]
    return b"".join(pieces)
