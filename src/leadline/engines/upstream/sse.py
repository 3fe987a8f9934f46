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
        *lines, self._rest = (self._rest + piece).split(b"\n")
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
