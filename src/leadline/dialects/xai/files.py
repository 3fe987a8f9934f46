"""The service `xai_api.Files`. An upload is a stream of its own: first `init`, then the pieces of `data`."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from leadline.dialects.field_names import naming
from leadline.dialects.xai.fields import optional
from leadline.dialects.xai.protos import files
from leadline.dialects.xai.rpc import Rpc
from leadline.errors import DeadlineExceeded, InvalidRequest, WrongMethod
from leadline.serving.file_rows import File, FileOrder, SortKey
from leadline.serving.file_texts import text_of
from leadline.web.exchange import UPLOAD_SECONDS

_ON_A_PAGE = 100
_PIECE_BYTES = 256 * 1024
_SORT_KEYS: dict[int, SortKey] = {
    files.FILES_SORT_BY_CREATED_AT: "created_at",
    files.FILES_SORT_BY_FILENAME: "filename",
    files.FILES_SORT_BY_SIZE: "size",
}
_FIELDS = {"filename": "init.name", "expires_after": "init.expires_after"}


async def upload_file(rpc: Rpc, chunks: AsyncIterator[Any]) -> Any:
    latest = asyncio.get_running_loop().time() + UPLOAD_SECONDS
    first = await anext(chunks, None)
    if first is None or first.WhichOneof("chunk") != "init":
        raise InvalidRequest("init is missing: the first message of an upload names the file.", "init")
    with naming(_FIELDS):
        async with rpc.pipeline.upload_file(rpc.caller, first.init.name) as upload:
            async for chunk in chunks:
                if chunk.WhichOneof("chunk") != "data":
                    raise InvalidRequest("data is missing: after init every message holds data.", "data")
                if asyncio.get_running_loop().time() > latest:
                    raise DeadlineExceeded("The file did not arrive in time.")
                piece = chunk.data
                del chunk  # it has a copy of its own
                await upload.write(piece)
            return _encoded(await upload.keep("", optional(first.init, "expires_after")))


async def list_files(rpc: Rpc, wire: Any) -> Any:
    if wire.sort_by not in _SORT_KEYS:
        raise InvalidRequest(f"sort_by is no value of FilesSortBy: {wire.sort_by}.", "sort_by")
    if wire.order not in (files.ASCENDING, files.DESCENDING):
        raise InvalidRequest(f"order is no value of Ordering: {wire.order}.", "order")
    order = FileOrder(
        limit=wire.limit or _ON_A_PAGE,
        sort_by=_SORT_KEYS[wire.sort_by],
        ascending=wire.order == files.ASCENDING,
        filter=wire.filter,
        token=wire.pagination_token,
    )
    page = await rpc.pipeline.list_files(rpc.caller, order)
    return files.ListFilesResponse(data=[_encoded(file) for file in page.files], pagination_token=page.token)


async def retrieve_file(rpc: Rpc, wire: Any) -> Any:
    return _encoded(await rpc.pipeline.find_file(rpc.caller, wire.file_id))


async def delete_file(rpc: Rpc, wire: Any) -> Any:
    await rpc.pipeline.delete_file(rpc.caller, wire.file_id)
    return files.DeleteFileResponse(id=wire.file_id, deleted=True)


async def retrieve_file_content(rpc: Rpc, wire: Any) -> None:
    """Nothing goes out before all of it was checked."""
    async with rpc.pipeline.open_file(rpc.caller, wire.file_id) as content:
        if wire.format == files.DOWNLOAD_FORMAT_TEXT:
            text = (await text_of(content)).encode()
            for begin in range(0, len(text), _PIECE_BYTES):
                await rpc.write(files.FileContentChunk(data=text[begin : begin + _PIECE_BYTES]))
            return
        async with aclosing(content.pieces()) as pieces:
            async for piece in pieces:
                await rpc.write(files.FileContentChunk(data=piece))


async def refuse_public_url(rpc: Rpc, wire: Any) -> Any:
    await rpc.pipeline.find_file(rpc.caller, wire.file_id)
    raise WrongMethod("Files have no public URLs here. Fetch them with RetrieveFileContent and a key.", "")


def _encoded(file: File) -> Any:
    encoded = files.File(id=file.id, filename=file.filename, size=file.size_bytes)
    encoded.created_at.FromMicroseconds(file.created_at)
    if file.expires_at is not None:
        encoded.expires_at.FromMicroseconds(file.expires_at)
    return encoded


HANDLERS = {
    "/xai_api.Files/UploadFile": upload_file,
    "/xai_api.Files/ListFiles": list_files,
    "/xai_api.Files/RetrieveFile": retrieve_file,
    "/xai_api.Files/DeleteFile": delete_file,
    "/xai_api.Files/RetrieveFileContent": retrieve_file_content,
    "/xai_api.Files/CreatePublicUrl": refuse_public_url,
    "/xai_api.Files/RevokePublicUrl": refuse_public_url,
}
