"""Files as OpenAI's and xAI's clients upload, list and fetch them."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack, aclosing
from typing import Annotated, Any, get_args
from urllib.parse import quote

import msgspec
from msgspec import Meta

from leadline.clock import MICROSECONDS_PER_SECOND
from leadline.dialects.answers import STALLED_SECONDS
from leadline.dialects.multipart import Multipart, boundary_of
from leadline.errors import ClientGone, InvalidRequest
from leadline.serving.file_rows import MOST_ON_A_PAGE, File, FileOrder, SortKey
from leadline.serving.file_texts import text_of
from leadline.serving.files import LARGEST_BYTES, Upload, file_too_large
from leadline.serving.pipeline import Caller, Pipeline
from leadline.web.exchange import Exchange, Headers
from leadline.web.pages import integer

Json = dict[str, Any]
ON_A_PAGE = 100
# A form's boundaries, headers and other fields come on top of the file.
_LARGEST_FORM_BYTES = LARGEST_BYTES + 1024 * 1024
_LARGEST_VALUE_BYTES = 1024
_TERMS = ("expires_after", "expires_after[seconds]")
_SORT_KEYS: dict[str, SortKey] = {key: key for key in get_args(SortKey)}
_BYTES = b"application/octet-stream"


class Form(msgspec.Struct):
    """The fields of an upload, for its description: a form is read as it comes, and not decoded as a whole."""

    file: Annotated[str, Meta(extra_json_schema={"format": "binary"})]
    purpose: str = ""
    expires_after: int | None = None


async def upload_file(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    boundary = boundary_of(exchange.header(b"content-type") or "")
    upload: Upload | None = None
    fields: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        pieces = await stack.enter_async_context(aclosing(exchange.pieces(_LARGEST_FORM_BYTES, file_too_large())))
        form = Multipart(pieces, boundary)
        while (part := await form.next_part()) is not None:
            name = part.name[:100]
            if name in fields or (name == "file" and upload is not None):
                raise InvalidRequest(f"{name} is there twice. Send one.", name)
            if name != "file":
                fields[name] = await form.value(name, _LARGEST_VALUE_BYTES)
                continue
            if part.filename is None:
                raise InvalidRequest("file has no name: send it as a file, with filename=…", "file")
            upload = await stack.enter_async_context(pipeline.upload_file(caller, part.filename))
            while piece := await form.read():
                await upload.write(piece)
        if upload is None:
            raise InvalidRequest("file is missing.", "file")
        file = await upload.keep(fields.get("purpose", ""), _term(fields))
    await exchange.respond_json(_encoded(file))


async def list_files(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    page = await pipeline.list_files(caller, _order(exchange.query()))
    files = [_encoded(file) for file in page.files]
    ids = [file["id"] for file in files] or [None]
    more = {"first_id": ids[0], "last_id": ids[-1], "has_more": page.token is not None}
    await exchange.respond_json({"object": "list", "data": files, **more, "pagination_token": page.token})


async def show_file(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    await exchange.respond_json(_encoded(await pipeline.find_file(caller, exchange.stored_id)))


async def delete_file(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    await pipeline.delete_file(caller, exchange.stored_id)
    await exchange.respond_json({"id": exchange.stored_id, "object": "file", "deleted": True})


async def show_content(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    """The bytes that were uploaded. Nothing goes out before all of them were checked."""
    form = exchange.query().get("format", "original")
    if form not in ("original", "text"):
        raise InvalidRequest("format must be original or text.", "format")
    async with pipeline.open_file(caller, exchange.stored_id) as content:
        if form == "text":
            text = (await text_of(content)).encode()
            await exchange.respond(200, text, _headers(content.file), _BYTES)
            return
        length = (b"content-length", b"%d" % content.file.size_bytes)
        await exchange.begin(200, [length, *_headers(content.file)], _BYTES)
        if exchange.method != "HEAD":
            async with aclosing(content.pieces()) as pieces:
                async for piece in pieces:
                    await _send(exchange, piece)
    await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


async def refuse_public_url(pipeline: Pipeline, caller: Caller, exchange: Exchange) -> None:
    await pipeline.find_file(caller, exchange.stored_id)
    raise InvalidRequest("Files have no public URLs here. Fetch GET /v1/files/{id}/content with a key.", "public-url")


async def _send(exchange: Exchange, piece: bytes) -> None:
    """A client that takes nothing for a while is given up."""
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            await exchange.send({"type": "http.response.body", "body": piece, "more_body": True})
    except TimeoutError:
        raise ClientGone from None
    if exchange.lost:
        raise ClientGone


def _headers(file: File) -> Headers:
    """What was uploaded is never shown as a page of this server."""
    name = f"attachment; filename*=UTF-8''{quote(file.filename, safe='')}"
    return [(b"content-disposition", name.encode()), (b"x-content-type-options", b"nosniff")]


def _term(fields: Mapping[str, str]) -> int | None:
    """Seconds until it expires, in xAI's form or in OpenAI's."""
    if fields.get("expires_after[anchor]", "created_at") != "created_at":
        raise InvalidRequest("expires_after[anchor] must be created_at.", "expires_after[anchor]")
    name = next((name for name in _TERMS if name in fields), None)
    if name is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", fields[name]):
        raise InvalidRequest(f"{name} must be a number of seconds.", name)
    return int(fields[name])


def _order(query: Mapping[str, str]) -> FileOrder:
    way, by = query.get("order") or "desc", query.get("sort_by") or "created_at"
    if way not in ("asc", "desc"):
        raise InvalidRequest("order must be asc or desc.", "order")
    if by not in _SORT_KEYS:
        raise InvalidRequest(f"sort_by must be one of {', '.join(_SORT_KEYS)}.", "sort_by")
    return FileOrder(
        limit=integer(query, "limit", ON_A_PAGE, 1, MOST_ON_A_PAGE),
        sort_by=_SORT_KEYS[by],
        ascending=way == "asc",
        purpose=query.get("purpose") or None,
        filter=query.get("filter"),
        after=query.get("after"),
        token=query.get("pagination_token"),
    )


def _encoded(file: File) -> Json:
    """`status` is what OpenAI's clients wait for."""
    return {
        "id": file.id,
        "object": "file",
        "bytes": file.size_bytes,
        "created_at": file.created_at // MICROSECONDS_PER_SECOND,
        "expires_at": None if file.expires_at is None else file.expires_at // MICROSECONDS_PER_SECOND,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }


ROUTES = {
    ("POST", "/v1/files"): upload_file,
    ("GET", "/v1/files"): list_files,
    ("GET", "/v1/files/{id}"): show_file,
    ("DELETE", "/v1/files/{id}"): delete_file,
    ("GET", "/v1/files/{id}/content"): show_content,
    ("POST", "/v1/files/{id}/public-url"): refuse_public_url,
    ("POST", "/v1/files/{id}/public-url/revoke"): refuse_public_url,
}
