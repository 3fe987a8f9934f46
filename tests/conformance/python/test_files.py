"""Files over HTTP: as the SDK sends and reads them, and as nobody should."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from leadline.operations.housekeeping import keep_house
from leadline.serving import files
from tests.raw import Answer, Raw, head, parse, post, post_form, request, upload
from tests.scripted.server import EMAIL, ScriptedServer

FILES = "/v1/files"
FORM = "multipart/form-data; boundary=b"


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key=server.api_key, base_url=f"{server.base_url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedServer]:
    """One server for all that is refused and leaves nothing."""
    server = ScriptedServer(tmp_path_factory.mktemp("files") / "data")
    yield server
    server.stop()


def ask(server: ScriptedServer, method: str, path: str, api_key: str | None = None) -> Answer:
    key = api_key or server.api_key
    return request(server.port, method, path, Authorization=f"Bearer {key}", content_length="0")


def contents(server: ScriptedServer) -> list[Path]:
    folder = server.data / "files"
    return list(folder.iterdir()) if folder.exists() else []


def key_of(server: ScriptedServer, **options: object) -> str:
    key: str = server.command("keys create", name=f"key-{len(options)}", email=EMAIL, options=options)["api_key"]
    return key


def bobs_key(server: ScriptedServer) -> str:
    """The key of another organisation."""
    server.command("accounts create", email="bob@southwind.example", org="Southwind", password="battery staple")
    key: str = server.command("keys create", name="bob", email="bob@southwind.example")["api_key"]
    return key


def test_the_sdk_uploads_lists_fetches_and_deletes(server, client):
    notes = client.files.create(
        file=("nøtes.txt", b"hello\n" * 100_000),
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (notes.object, notes.bytes, notes.filename, notes.purpose, notes.status) == (
        *("file", 600_000, "nøtes.txt", "assistants", "processed"),
    )
    assert notes.expires_at == notes.created_at + 3600
    lines = client.files.create(file=io.BytesIO(b""), purpose="batch")
    assert (lines.bytes, lines.expires_at) == (0, None)
    assert client.files.retrieve(notes.id) == notes
    assert client.files.wait_for_processing(notes.id) == notes
    assert [file.id for file in client.files.list(limit=1)] == [lines.id, notes.id]
    assert [file.id for file in client.files.list(order="asc", limit=1)] == [notes.id, lines.id]
    assert [file.id for file in client.files.list(purpose="batch")] == [lines.id]
    assert client.files.content(notes.id).read() == b"hello\n" * 100_000
    assert client.files.content(lines.id).read() == b""
    deleted = client.files.delete(notes.id)
    assert (deleted.id, deleted.deleted) == (notes.id, True)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(notes.id)


def test_the_sdk_uploads_in_parallel(server):
    async def upload_all() -> list[bytes]:
        async with openai.AsyncOpenAI(api_key=server.api_key, base_url=f"{server.base_url}/v1") as client:
            made = [client.files.create(file=(f"{n}", b"%d" % n * 300_000), purpose="batch") for n in range(8)]
            ids = [file.id for file in await asyncio.gather(*made)]
            fetched = await asyncio.gather(*(client.files.content(file_id) for file_id in ids))
            return [content.content for content in fetched]

    assert asyncio.run(upload_all()) == [b"%d" % number * 300_000 for number in range(8)]


def test_an_answer_has_xais_fields_too(server):
    made = upload(server.port, server.api_key, "a.txt", b"hello", expires_after="7200").json
    assert made.keys() == {*("id", "object", "bytes", "created_at", "expires_at", "filename", "purpose", "status")}
    assert made["expires_at"] == made["created_at"] + 7200
    assert made["purpose"] == ""
    for name in "bc":
        upload(server.port, server.api_key, name, b"")
    page = ask(server, "GET", f"{FILES}?limit=2&sort_by=filename&order=asc").json
    assert [file["filename"] for file in page["data"]] == ["a.txt", "b"]
    assert page["data"][0] == made
    last = ask(server, "GET", f"{FILES}?sort_by=filename&order=asc&pagination_token={page['pagination_token']}").json
    assert [file["filename"] for file in last["data"]] == ["c"]
    assert (last["has_more"], last["pagination_token"]) == (False, None)


def test_a_content_is_sent_as_bytes_that_no_browser_shows(server):
    made = upload(server.port, server.api_key, "a%22ø.html", "<h1>ø</h1>".encode()).json
    answer = ask(server, "GET", f"{FILES}/{made['id']}/content")
    assert answer.body == "<h1>ø</h1>".encode()
    told = {name: answer.headers[name] for name in ("content-type", "content-disposition", "x-content-type-options")}
    assert list(told.values()) == [
        "application/octet-stream",
        "attachment; filename*=UTF-8''a%22%C3%B8.html",
        "nosniff",
    ]
    bare = ask(server, "HEAD", f"{FILES}/{made['id']}/content")
    assert (bare.status, bare.headers["content-length"], bare.body) == (200, "11", b"")
    assert ask(server, "GET", f"{FILES}/{made['id']}/content?format=text").body == "<h1>ø</h1>".encode()
    picture = upload(server.port, server.api_key, "a.png", b"\x89PNG").json
    assert ask(server, "GET", f"{FILES}/{picture['id']}/content?format=text").status == 400
    assert ask(server, "GET", f"{FILES}/{picture['id']}/content?format=pdf").json["error"]["param"] == "format"


FILE = b'name="file"; filename="a"\r\n\r\nx'
BAD_FORMS: dict[str, tuple[list[bytes], str]] = {
    "no file": ([b"name=purpose\r\n\r\nbatch"], "file"),
    "nothing": ([], "file"),
    "a file without a name": ([b"name=file\r\n\r\nx"], "file"),
    "an empty name": ([b'name=file; filename=""\r\n\r\nx'], "filename"),
    "a path as a name": ([b'name=file; filename="../secret"\r\n\r\nx'], "filename"),
    "a control character": ([b'name=file; filename="a%0Db"\r\n\r\nx'], "filename"),
    "a long name": ([b"name=file; filename=" + b"a" * 256 + b"\r\n\r\nx"], "filename"),
    "two files": ([FILE, FILE], "file"),
    "two purposes": ([b"name=purpose\r\n\r\na", b"name=purpose\r\n\r\nb", FILE], "purpose"),
    "a long purpose": ([FILE, b"name=purpose\r\n\r\n" + b"a" * 65], "purpose"),
    "a very long purpose": ([FILE, b"name=purpose\r\n\r\n" + b"a" * 5000], "purpose"),
    "a short term": ([FILE, b"name=expires_after\r\n\r\n3599"], "expires_after"),
    "a long term": ([FILE, b"name=expires_after\r\n\r\n2592001"], "expires_after"),
    "no term": ([FILE, b"name=expires_after\r\n\r\nsoon"], "expires_after"),
    "no term in OpenAI's form": ([FILE, b"name=expires_after[seconds]\r\n\r\n-1"], "expires_after[seconds]"),
    "another anchor": ([FILE, b"name=expires_after[anchor]\r\n\r\nnow"], "expires_after[anchor]"),
    "a large head": ([b"name=file; filename=a\r\nX: " + b"y" * 20_000 + b"\r\n\r\nx"], "file"),
    "many parts": ([b"name=f%d\r\n\r\nx" % number for number in range(40)], "file"),
}


@pytest.mark.parametrize("what", BAD_FORMS)
def test_a_bad_form_is_a_400_that_names_the_field_and_leaves_nothing(strict, what):
    parts, param = BAD_FORMS[what]
    answer = post_form(strict.port, strict.api_key, parts)
    assert (answer.status, answer.json["error"]["param"]) == (400, param), answer.body
    assert contents(strict) == []
    assert ask(strict, "GET", FILES).json["data"] == []


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain"])
def test_what_is_no_form_is_a_400(strict, content_type):
    answer = post(strict.port, FILES, strict.api_key, b"{}", content_type=content_type)
    assert (answer.status, answer.json["error"]["param"]) == (400, "file")


def test_fields_that_nobody_knows_have_no_effect(server):
    assert post_form(server.port, server.api_key, [b"name=x\r\n\r\ny", FILE]).status == 200


BAD_QUERIES = {
    "limit": ["0", "10001", "x"],
    "order": ["up"],
    "sort_by": ["purpose"],
    "filter": [
        "size_bytes",
        "name%3D1",
        "purpose%3D%22x%22",
        "NOT%20name%3D%22a%22",
        "size_bytes%3E1%20OR%20name%3D%22a%22",
    ],
    "pagination_token": ["x", "%FF"],
}


@pytest.mark.parametrize("param", BAD_QUERIES)
def test_a_bad_query_is_a_400_that_names_the_parameter(strict, param):
    for value in BAD_QUERIES[param]:
        answer = ask(strict, "GET", f"{FILES}?{param}={value}")
        assert (answer.status, answer.json["error"]["param"]) == (400, param)


def test_a_file_that_is_too_large_is_a_413_and_leaves_nothing(server, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_BYTES", 100_000)
    assert upload(server.port, server.api_key, "a", b"x" * 100_000).status == 200
    for _ in range(2):
        answer = upload(server.port, server.api_key, "a", b"x" * 100_001)
        assert (answer.status, answer.json["error"]["code"]) == (413, "request_too_large")
    told = Raw(server.port)
    told.send(head(FILES, server.api_key, 60_000_000, content_type=FORM))
    assert parse(told.read_to_end()).status == 413
    assert len(contents(server)) == 1


def test_whoever_closes_behind_a_large_body_hears_that_it_is_too_large(server):
    """Closed while it is being sent, the connection would be reset, and the answer lost."""
    for length in (8_000_000, 60_000_000):
        raw = Raw(server.port)
        raw.send(head(FILES, server.api_key if length > 50_000_000 else "no", length, content_type=FORM))
        for _ in range(length // 1_000_000):
            raw.send(b"x" * 1_000_000)
        assert parse(raw.read_to_end()).status == (413 if length > 50_000_000 else 401)


def test_a_body_that_is_cut_leaves_nothing(server):
    raw = Raw(server.port)
    raw.send(head(FILES, server.api_key, 2_000_000, content_type=FORM))
    raw.send(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + b"x" * 600_000)
    server.wait_until(lambda: len(contents(server)) == 1)
    raw.hang_up()
    server.wait_until(lambda: not contents(server) and not server.pipeline.files.uploading)
    assert ask(server, "GET", FILES).json["data"] == []


def test_a_form_that_ends_too_early_is_a_400_and_leaves_nothing(server):
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nhello\r\n--'
    answer = post(server.port, FILES, server.api_key, body, content_type=FORM)
    assert (answer.status, answer.json["error"]["param"]) == (400, "file")
    assert contents(server) == []


def test_a_body_that_pauses_too_long_is_a_504_and_leaves_nothing(server, monkeypatch):
    monkeypatch.setattr("leadline.web.exchange._BODY_PAUSE_SECONDS", 0.05)
    raw = Raw(server.port)
    raw.send(head(FILES, server.api_key, 2_000_000, content_type=FORM))
    raw.send(b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx')
    assert parse(raw.read_to_end()).status == 504
    assert contents(server) == []


def test_more_than_an_organisation_may_have_is_a_429_that_says_so(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "leadline.toml").write_text("[files]\nper_organisation = 2\nmegabytes_per_organisation = 1\n")
    server = ScriptedServer(data)
    assert upload(server.port, server.api_key, "a", b"x" * 600_000).status == 200
    answer = upload(server.port, server.api_key, "b", b"x" * 600_000)
    assert (answer.status, answer.headers["x-should-retry"]) == (429, "false")
    assert "1 MB" in answer.json["error"]["message"]
    assert upload(server.port, server.api_key, "b", b"x").status == 200
    answer = upload(server.port, server.api_key, "c", b"x")
    assert (answer.status, "2 of 2 files" in answer.json["error"]["message"]) == (429, True)
    assert upload(server.port, bobs_key(server), "c", b"x").status == 200
    server.stop()


def test_anybody_elses_file_does_not_exist(server):
    file_id = upload(server.port, server.api_key, "a", b"hello").json["id"]
    key = bobs_key(server)
    paths = [("GET", ""), ("GET", "/content"), ("DELETE", ""), ("POST", "/public-url"), ("POST", "/public-url/revoke")]
    for method, end in paths:
        foreign = ask(server, method, f"{FILES}/{file_id}{end}", key)
        unknown = ask(server, method, f"{FILES}/file_0{end}", key)
        assert (foreign.status, foreign.body) == (404, unknown.body)
    assert ask(server, "GET", FILES, key).json["data"] == []
    assert ask(server, "GET", f"{FILES}/{file_id}/content").body == b"hello"


def test_public_urls_are_refused_by_name(server):
    file_id = upload(server.port, server.api_key, "a", b"hello").json["id"]
    for end in ("public-url", "public-url/revoke"):
        answer = ask(server, "POST", f"{FILES}/{file_id}/{end}")
        assert (answer.status, answer.json["error"]["param"]) == (400, "public-url")


def test_a_key_needs_the_scope_and_an_organisation_that_is_not_suspended(server):
    file_id = upload(server.port, server.api_key, "a", b"hello").json["id"]
    chats = key_of(server, endpoints=["chat"])
    attempts: list[Callable[[str], Answer]] = [
        lambda key: upload(server.port, key, "b", b"x"),
        lambda key: ask(server, "GET", FILES, key),
        *(
            lambda key, m=method, e=end: ask(server, m, f"{FILES}/{file_id}{e}", key)
            for method, end in (
                ("GET", ""),
                ("GET", "/content"),
                ("DELETE", ""),
                ("POST", "/public-url"),
            )
        ),
    ]
    for attempt in attempts:
        assert attempt(chats).status == 403
        assert attempt("no").status == 401
    assert ask(server, "GET", FILES, key_of(server, endpoints=["files"], models=["echo"])).status == 200
    server.command("accounts suspend", email=EMAIL)
    for attempt in attempts:
        assert attempt(server.api_key).status == 403


def test_a_damaged_content_is_a_500_and_no_byte_of_it_is_sent(server, caplog):
    content = b"hello" * 200_000
    file_id = upload(server.port, server.api_key, "a", content).json["id"]
    [path] = contents(server)
    sealed = bytearray(path.read_bytes())
    assert content[:50] not in sealed
    sealed[-20] ^= 4
    path.write_bytes(sealed)
    answer = ask(server, "GET", f"{FILES}/{file_id}/content")
    assert (answer.status, answer.headers["x-should-retry"]) == (500, "false")
    assert "damaged" in answer.json["error"]["message"]
    assert any(record.name == "leadline.files" and record.file_id == file_id for record in caplog.records)
    assert ask(server, "DELETE", f"{FILES}/{file_id}").status == 200
    assert contents(server) == []


def test_a_full_disk_is_a_503_and_leaves_nothing(server, monkeypatch):
    monkeypatch.setattr("leadline.serving.file_contents.SPARE_BYTES", 2**62)
    answer = upload(server.port, server.api_key, "a", b"hello")
    assert (answer.status, answer.json["error"]["code"]) == (503, "overloaded")
    assert "disk has no room" in answer.json["error"]["message"]
    assert contents(server) == []


def test_files_outlive_a_restart_and_halves_do_not(server):
    file_id = upload(server.port, server.api_key, "a", b"hello").json["id"]
    (server.data / "files" / "file_0.part").write_bytes(b"half")
    server.restart()
    tidying = asyncio.run_coroutine_threadsafe(keep_house(server.instance, server.pipeline), server.loop)
    server.wait_until(lambda: len(contents(server)) == 1)
    tidying.cancel()
    assert [path.name for path in contents(server)] == [file_id]
    assert ask(server, "GET", f"{FILES}/{file_id}/content").body == b"hello"


def test_the_pipeline_gives_texts_and_lines_to_their_owner_alone(server):
    file_id = upload(server.port, server.api_key, "a.jsonl", b'{"a":1}\n{"b":2}').json["id"]
    alice, bob = (server.pipeline.authenticate(key) for key in (key_of(server, endpoints=["chat"]), bobs_key(server)))

    async def lines(caller: object) -> list[bytes]:
        return [line async for line in server.pipeline.file_lines(caller, file_id)]

    assert server.run(server.pipeline.file_text(alice, file_id)) == '{"a":1}\n{"b":2}'
    assert [json.loads(line) for line in server.run(lines(alice))] == [{"a": 1}, {"b": 2}]
    for read in (server.pipeline.file_text(bob, file_id), lines(bob)):
        with pytest.raises(files.FileNotFound):
            server.run(read)
