"""Server-sent events as an engine sends them (WHATWG HTML, section 9.2): bytes in, `data` payloads out."""

from dataclasses import dataclass, field

from leadline.errors import EngineFailed

LONGEST_EVENT_BYTES = 1024 * 1024


@dataclass(slots=True)
class EventParser:
    """Takes bytes cut anywhere. Comments, names, ids and empty events are dropped; LF and CRLF both end a line."""

    _rest: bytes = b""
    _data: list[bytes] = field(default_factory=list)

    def feed(self, piece: bytes) -> list[bytes]:
        """The payloads of the events that are now complete."""
        piece = self._rest + piece
        payloads = None if self._data or b"\r" in piece else _of_whole_events(piece)
        if payloads is None:
            payloads = self._read(piece)
        else:
            self._rest = b""
        return payloads

    def _read(self, piece: bytes) -> list[bytes]:
        """Line by line."""
        *lines, self._rest = piece.split(b"\n")
        if len(self._rest) > LONGEST_EVENT_BYTES:
            raise EngineFailed("The engine sent an event that is too long.")
        payloads: list[bytes] = []
        for line in lines:
            text = line.removesuffix(b"\r")
            if text.startswith(b"data:"):
                self._data.append(text[6:] if text[5:6] == b" " else text[5:])
            elif not text and self._data:
                payload = b"\n".join(self._data) if len(self._data) > 1 else self._data[0]
                self._data.clear()
                if payload:
                    payloads.append(payload)
        return payloads

    def end(self) -> list[bytes]:
        """The payload of a last event that no empty line ends."""
        return self.feed(b"\n\n")


def _of_whole_events(piece: bytes) -> list[bytes] | None:
    """The payloads of a piece that holds nothing but whole events of one line, as nearly all do; None of any other."""
    if not piece.endswith(b"\n\n"):
        return None
    payloads: list[bytes] = []
    for event in piece[:-2].split(b"\n\n"):
        if not event.startswith(b"data: ") or b"\n" in event:
            return None
        if len(event) > 6:
            payloads.append(event[6:])
    return payloads
