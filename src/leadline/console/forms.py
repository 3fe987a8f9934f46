"""What a form sends: bounded in size and time, every field a text."""

import asyncio
from urllib.parse import parse_qs

from starlette.requests import Request

from leadline.errors import ClientGone, DeadlineExceeded, InvalidRequest, RequestTooLarge

LARGEST_FORM_BYTES = 64 * 1024
_READ_SECONDS = 15
_MOST_FIELDS = 200


class Form:
    """The fields by name. A field that was not sent is empty, as one that was left empty."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        """The field's text without the space around it; of several the first."""
        return self.raw(name).strip()

    def raw(self, name: str) -> str:
        """The text as it was sent, as passwords want it."""
        return self._fields.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """What was chosen of several."""
        return [text.strip() for text in self._fields.get(name, [])]

    def __contains__(self, name: str) -> bool:
        return name in self._fields


EMPTY = Form({})


async def read_form(request: Request) -> Form:
    """The body of a form. RequestTooLarge, DeadlineExceeded, or InvalidRequest where it is none."""
    body = await read_body(request, LARGEST_FORM_BYTES)
    if not body:
        return EMPTY
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
        raise InvalidRequest("Send this form as a browser does: application/x-www-form-urlencoded.")
    try:
        return Form(parse_qs(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        raise InvalidRequest("This form cannot be read.") from None


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body."""
    pieces, size = [], 0
    try:
        async with asyncio.timeout(_READ_SECONDS):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                piece = message.get("body", b"")
                size += len(piece)
                if size > most_bytes:
                    raise RequestTooLarge(f"A form may have {most_bytes // 1024} KiB at most.")
                pieces.append(piece)
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        raise DeadlineExceeded("The form did not arrive in time. Send it again.") from None
