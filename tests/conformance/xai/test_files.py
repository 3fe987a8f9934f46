"""`xai_api.Files` as xAI's SDK calls it, and as nobody should."""

import datetime
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from leadline.dialects.xai.protos import files
from leadline.serving import files as serving
from tests.conformance.xai.rpcs import Outcome, bearer, call, plain_channel
from tests.raw import request, upload
from tests.scripted.server import ScriptedServer

UPLOAD = "/xai_api.Files/UploadFile"
PIECE = b"hello" * 100_000


def contents(server: ScriptedServer) -> list[Path]:
    folder = server.data / "files"
    return list(folder.iterdir()) if folder.exists() else []


def init(name: str = "a.txt", **more: Any) -> Any:
    return files.UploadFileChunk(init=files.UploadFileInit(name=name, **more))


def data(piece: bytes = b"hello") -> Any:
    return files.UploadFileChunk(data=piece)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    """One server for all that is refused and leaves nothing."""
    server = ScriptedServer(tmp_path_factory.mktemp("files") / "data")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def strict_channel(strict: ScriptedServer) -> Iterator[grpc.Channel]:
    with plain_channel(strict.grpc_address) as channel:
        yield channel


def send(server: ScriptedServer, channel: grpc.Channel, *chunks: Any) -> Outcome:
    # A stream even where it is one message.
    return call(channel, UPLOAD, chunks if len(chunks) != 1 else [*chunks, b""], bearer(server.api_key))


def test_the_sdk_uploads_lists_fetches_and_deletes(either, tmp_path):
    progress: list[int] = []
    large = either.files.upload(
        PIECE * 8, filename="lärge.txt", expires_after=datetime.timedelta(hours=2), on_progress=progress.append
    )
    assert (large.size, large.filename) == (4_000_000, "lärge.txt")
    assert large.expires_at.seconds - large.created_at.seconds == 7200
    assert len(progress) > 1
    (tmp_path / "b.txt").write_bytes(b"bb")
    small = either.files.upload(str(tmp_path / "b.txt"))
    empty = either.files.upload(io.BytesIO(b""), filename="c.txt")
    assert (small.filename, empty.size) == ("b.txt", 0)
    assert not small.HasField("expires_at")
    assert either.files.get(large.id) == large
    assert either.files.content(large.id) == PIECE * 8
    assert either.files.content(empty.id) == b""
    assert list(either.files.list(order="asc", sort_by="size").data) == [empty, small, large]
    assert either.files.delete(large.id).deleted
    with pytest.raises(grpc.RpcError) as refused:
        either.files.get(large.id)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_the_sdk_goes_from_page_to_page(either):
    made = [either.files.upload(b"x", filename=name) for name in "abc"]
    seen, token = [], None
    while token != "":
        page = either.files.list(limit=2, order="desc", sort_by="filename", pagination_token=token)
        seen += [file.id for file in page.data]
        token = page.pagination_token
    assert seen == [file.id for file in reversed(made)]


def test_the_sdk_uploads_many_at_once(either):
    named = [io.BytesIO(b"%d" % number) for number in range(20)]
    for number, file in enumerate(named):
        file.name = f"{number}.txt"
    made = either.files.batch_upload(named)
    assert sorted(file.filename for file in made.values()) == sorted(f"{number}.txt" for number in range(20))
    assert {either.files.content(file.id) for file in made.values()} == {b"%d" % number for number in range(20)}


def test_a_file_is_the_same_over_both_protocols(server, sdk):
    over_http = upload(server.port, server.api_key, "a.txt", b"hello", purpose="assistants").json
    assert sdk.files.content(over_http["id"]) == b"hello"
    made = sdk.files.upload(b"hello", filename="b.txt")
    answer = request(server.port, "GET", f"/v1/files/{made.id}", x_api_key=server.api_key).json
    assert (answer["bytes"], answer["filename"], answer["purpose"]) == (5, "b.txt", "")
    assert answer["created_at"] == made.created_at.seconds


def test_public_urls_are_refused_with_a_sentence(sdk):
    made = sdk.files.upload(b"hello", filename="a.txt")
    for refuse in (sdk.files.create_public_url, sdk.files.revoke_public_url):
        with pytest.raises(grpc.RpcError) as refused:
            refuse(made.id)
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "RetrieveFileContent" in refused.value.details()


BAD_UPLOADS: dict[str, tuple[list[Any], str]] = {
    "no init": ([data(), data()], "init"),
    "an empty message first": ([files.UploadFileChunk(), data()], "init"),
    "two inits": ([init(), init()], "data"),
    "an empty message later": ([init(), data(), files.UploadFileChunk()], "data"),
    "no name": ([init(""), data()], "init.name"),
    "a path as a name": ([init("../secret"), data()], "init.name"),
    "a long name": ([init("a" * 256), data()], "init.name"),
    "a short term": ([init(expires_after=3599), data()], "init.expires_after"),
    "a negative term": ([init(expires_after=-1), data()], "init.expires_after"),
    "no message": ([init(), b"\xff\xff"], "UploadFileChunk"),
}


@pytest.mark.parametrize("what", BAD_UPLOADS)
def test_a_bad_upload_is_refused_by_name_and_leaves_nothing(strict, strict_channel, what):
    chunks, named = BAD_UPLOADS[what]
    outcome = send(strict, strict_channel, *chunks)
    assert (outcome.code, named in outcome.details) == ("INVALID_ARGUMENT", True), outcome
    assert contents(strict) == []


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(server, channel, monkeypatch):
    monkeypatch.setattr(serving, "LARGEST_BYTES", 1_000_000)
    assert send(server, channel, init(), data(PIECE), data(PIECE)).code == "OK"
    outcome = send(server, channel, init(), data(PIECE), data(PIECE), data(b"x"))
    assert outcome.code == "RESOURCE_EXHAUSTED"
    assert outcome.trailing["x-should-retry"] == "false"
    assert len(contents(server)) == 1


def test_an_upload_that_is_given_up_leaves_nothing(server, channel):
    gate = iter([init(), data(PIECE)])

    def chunks() -> Any:
        yield from (chunk.SerializeToString() for chunk in gate)
        server.wait_until(lambda: len(contents(server)) == 1)
        rpc.cancel()

    rpc = channel.stream_unary(UPLOAD).future(chunks(), metadata=bearer(server.api_key))
    with pytest.raises(grpc.FutureCancelledError):
        rpc.result()
    server.wait_until(lambda: not contents(server) and not server.pipeline.files.uploading)


def test_an_upload_that_pauses_too_long_ends_and_leaves_nothing(server, channel, monkeypatch):
    monkeypatch.setattr("leadline.dialects.xai.rpc.PAUSE_SECONDS", 0.05)

    def chunks() -> Any:
        yield init().SerializeToString()
        yield data(PIECE).SerializeToString()
        server.wait_until(lambda: contents(server))
        server.wait_until(lambda: not server.pipeline.files.uploading)

    with pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary(UPLOAD)(chunks(), metadata=bearer(server.api_key), timeout=30)
    assert refused.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert contents(server) == []


def test_a_damaged_content_is_internal_and_no_byte_of_it_is_sent(server, channel, sdk):
    made = sdk.files.upload(PIECE, filename="a.txt")
    [path] = contents(server)
    sealed = bytearray(path.read_bytes())
    sealed[-1] ^= 1
    path.write_bytes(sealed)
    asked = files.RetrieveFileContentRequest(file_id=made.id)
    outcome = call(channel, "/xai_api.Files/RetrieveFileContent", [asked], bearer(server.api_key))
    assert (outcome.code, outcome.messages) == ("INTERNAL", ())
    assert "damaged" in outcome.details


def test_a_content_comes_as_text_where_it_is_one(server, channel, sdk):
    for held, code in ((b"\xef\xbb\xbfhello", "OK"), (b"\x89PNG", "INVALID_ARGUMENT")):
        made = sdk.files.upload(held, filename="a")
        asked = files.RetrieveFileContentRequest(file_id=made.id, format=files.DOWNLOAD_FORMAT_TEXT)
        outcome = call(channel, "/xai_api.Files/RetrieveFileContent", [asked], bearer(server.api_key))
        assert outcome.code == code
        assert b"".join(files.FileContentChunk.FromString(one).data for one in outcome.messages) == (
            b"hello" if code == "OK" else b""
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [("limit", -1), ("limit", 10_001), ("sort_by", 7), ("order", 7), ("filter", "x"), ("pagination_token", "x")],
)
def test_a_bad_list_is_refused_by_name(strict, strict_channel, field, value):
    asked = files.ListFilesRequest(**{field: value})
    outcome = call(strict_channel, "/xai_api.Files/ListFiles", [asked], bearer(strict.api_key))
    assert (outcome.code, outcome.details.startswith(field)) == ("INVALID_ARGUMENT", True)
