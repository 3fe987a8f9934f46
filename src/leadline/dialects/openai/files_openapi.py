"""What the OpenAPI document says of the files."""

from typing import Literal

from leadline.dialects.openai.answer_types import FileDeleted, FileList, FileObject
from leadline.dialects.openai.files import ON_A_PAGE, Form
from leadline.dialects.operation import OF_KEYS, OF_NAMED, OF_READS, Operation, Operations, Query
from leadline.errors import (
    DeadlineExceeded,
    FileDamaged,
    FileNotFound,
    FilesFull,
    PermissionDenied,
    RequestTooLarge,
    Unavailable,
)
from leadline.serving.file_rows import MOST_ON_A_PAGE

_ID = "file_01a2a5f1c0de7c3fb0d0a9e4a7f4c1d2"
_FILE = FileObject(
    id=_ID,
    object="file",
    bytes=19,
    created_at=1_773_345_577,
    expires_at=None,
    filename="notes.txt",
    purpose="assistants",
    status="processed",
)
_OF_UPLOADS = (
    *(*OF_KEYS, PermissionDenied(), RequestTooLarge(), FilesFull("Your organisation has 1000 of 1000 files.")),
    *(DeadlineExceeded(), Unavailable()),
)


def _public_url(summary: str) -> Operation:
    return Operation(summary, description="There is none, so it is always refused.", refusals=OF_NAMED)


OPERATIONS: Operations = {
    ("POST", "/v1/files"): Operation(
        "Upload a file",
        FileObject,
        _FILE,
        description="Up to 50 MB. It is kept encrypted, for its organisation alone.",
        body=Form,
        form=True,
        fields="/v1/files",
        refusals=_OF_UPLOADS,
    ),
    ("GET", "/v1/files"): Operation(
        "List the files",
        FileList,
        FileList(object="list", data=[_FILE], first_id=_ID, last_id=_ID, has_more=False, pagination_token=None),
        query=(
            Query("limit", int, f"Files on a page: 1 to {MOST_ON_A_PAGE}, {ON_A_PAGE} where it is absent."),
            Query("order", Literal["asc", "desc"], "`desc` where it is absent."),
            Query("sort_by", Literal["created_at", "filename", "size"], "`created_at` where it is absent."),
            Query("purpose", str, "Only files of this purpose."),
            Query("filter", str, 'Comparisons joined by `AND`, such as `size_bytes > 1000 AND name != "notes.txt"`.'),
            Query("after", str, "The page begins behind the file of this id."),
            Query("pagination_token", str, "That of the page before."),
        ),
    ),
    ("GET", "/v1/files/{id}"): Operation("Show a file", FileObject, _FILE, refusals=OF_NAMED),
    ("DELETE", "/v1/files/{id}"): Operation(
        "Delete a file", FileDeleted, FileDeleted(id=_ID, object="file", deleted=True), refusals=OF_NAMED
    ),
    ("GET", "/v1/files/{id}/content"): Operation(
        "Fetch what a file holds",
        held="The bytes that were uploaded; with `format=text` its text.",
        query=(Query("format", Literal["original", "text"], "`original` where it is absent."),),
        refusals=(*OF_READS, FileNotFound(), FileDamaged()),
    ),
    ("POST", "/v1/files/{id}/public-url"): _public_url("Make a public URL of a file"),
    ("POST", "/v1/files/{id}/public-url/revoke"): _public_url("Revoke the public URL of a file"),
}
