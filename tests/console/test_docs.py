"""The docs: whole, of the reader's own server, and nothing but text for whatever strangers send."""

import html
import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest

from leadline import errors
from leadline.cli.root import cli
from leadline.config import load
from leadline.console.docs.contents import ENTRIES, GROUPS
from leadline.console.docs.highlight import highlight
from leadline.console.docs.markdown import write
from leadline.console.docs.protos import protos
from leadline.console.docs.reader import Reader, marked
from leadline.console.docs.reference import KINDS, kind_of
from leadline.console.docs.search import LONGEST_QUERY, words_of
from leadline.console.docs.site import Docs
from leadline.console.navigation import NAVIGATION
from leadline.dialects.anthropic.errors import encode_error as anthropic_error
from leadline.dialects.api import openapi
from leadline.dialects.xai.errors import code_of
from leadline.web.errors import encode_error as openai_error
from tests.console.pages_of_docs import Program, Read

DOCS = Docs(openapi)
READER = Reader("https://models.northwind.example", "models.northwind.example:8081", "wind-1", "eye-1", "vec-1")
ARTICLES = [path for path in DOCS.paths() if DOCS.download(path) is None]
CONSOLE = {place.path for group in NAVIGATION for place in group.places} | {"/login", "/openapi.json"}
KNOWN = {"", *CONSOLE, *DOCS.paths()}
GUIDES = Path(__file__).parents[2] / "src/leadline/console/docs/guides"


@cache
def read(path: str, reader: Reader = READER) -> Read:
    article = DOCS.article(path, reader)
    assert article is not None, path
    return Read(article.html)


def programs(*languages: str) -> list[tuple[str, Program]]:
    return [(path, one) for path in ARTICLES for one in read(path).programs if one.label.partition(":")[0] in languages]


@pytest.mark.parametrize("path", ARTICLES)
def test_a_page_is_filled_safe_and_leads_somewhere(path):
    page = read(path)
    assert re.findall(r"\{\{|XX[A-Z]+XX", page.html) == []
    assert len(page.ids) == len(set(page.ids))
    # The policy of pages forbids these, and nothing of ours is loaded from within an article but icons.
    assert not page.tags & {"script", "style", "iframe", "img", "form", "link"}
    assert not [name for name in page.attributes if name == "style" or name.startswith("on")]
    assert [load for load in page.loads if not load.startswith("/static/")] == []
    for link in page.links:
        to, _, anchor = link.partition("#")
        assert to in KNOWN, link
        if anchor:
            assert anchor in (read(to or path).ids), link


@pytest.mark.parametrize("path", ARTICLES)
def test_a_page_speaks_of_the_readers_own_server(path):
    page = read(path)
    urls = set(re.findall(r"(?:https?|grpcs?|smtps?)://[\w.:@<>\[\]-]*", page.text))
    # An engine beside the server, hosts of examples, and schemes and ports that stand for any.
    known = r"\w+://(127\.0\.0\.1:8000|localhost:<port>|([\w:]+@)?[\w.:-]*\.example(:\d+)?)?"
    assert [url for url in urls if not re.fullmatch(known, url)] == []
    names = set(re.findall(r"\b(?:[a-z0-9-]+\.)+(?:com|ai|io|org|net|dev|co)\b", page.text))
    assert names == set()
    assert "smollm2" not in page.text or path in ("/docs/guides/configuration", "/docs/guides/models")


def test_a_page_says_where_a_model_is_lacking():
    lacking = Reader()
    assert "no model that sees yet" in read("/docs/guides/images", lacking).text
    assert "no model that makes embeddings yet" in read("/docs/guides/embeddings", lacking).text
    assert "no model that chats yet" in read("/docs/quickstart", lacking).text
    assert "wind-1" in read("/docs/quickstart").text


def test_beyond_its_own_machine_xais_sdk_is_told_that_there_is_no_certificate():
    told = ", use_insecure_channel=True)"
    assert told in read("/docs/quickstart").text
    assert told not in read("/docs/quickstart", Reader("https://a.example", "a.example:1", grpc_tls=True)).text
    assert told not in read("/docs/quickstart", Reader()).text


@dataclass
class Offered:
    name: str
    capabilities: tuple[str, ...] = ("chat", "vision", "embeddings")


HOSTILE = ('"; rm -rf ~; "', "<script>alert(1)</script>", "a b", "$(reboot)", "'", "`x`", "x\ny", "\u202e", "é", "")


@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_would_do_harm_in_a_copied_command_is_not_in_it(hostile):
    models = [Offered(hostile), Offered("good/model:Q4_K_M")]
    for base_url in (hostile, f"http://{hostile}", f"http://good.example{hostile or '/'}", "javascript:alert(1)"):
        reader = Reader.of(base_url, f"{hostile}:8081", models)
        assert reader == Reader("http://localhost:8080", "localhost:8081", *["good/model:Q4_K_M"] * 3), (
            base_url,
            reader,
        )
    page = read("/docs/quickstart", Reader.of(hostile, hostile, [Offered(hostile)]))
    assert page.html == read("/docs/quickstart", Reader()).html


@pytest.mark.parametrize(
    "base_url", ["http://localhost:9000", "https://models.a.example", "http://[::1]:8080", "http://ai_box/models/v2"]
)
def test_addresses_of_all_kinds_are_the_readers(base_url):
    assert Reader.of(base_url, "[::1]:8081", []) == Reader(base_url, "[::1]:8081")


def test_whatever_a_reader_is_called_it_is_only_text():
    page = read("/docs/quickstart", Reader('"><script>', "<b>", "<i>", "<u>", "&amp;"))
    assert not page.tags & {"script", "b", "i", "u"}
    assert '"><script>' in page.text


@pytest.mark.parametrize(
    "query", ["", " ", "(", "[a-z]*", "\\", "\0", "<script>", "%", "a" * 100_000, "' OR 1=1", "👩‍🚀"]
)
def test_any_query_is_only_words(query):
    assert all(word in query.casefold() for word in words_of(query))
    assert len(words_of(query)) <= 8
    assert sum(map(len, words_of(query))) <= LONGEST_QUERY
    for found in DOCS.search(query):
        assert DOCS.article(found.path.partition("#")[0], READER) is not None


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("idempotency", "/docs/guides/idempotency"),
        ("max_tokens", "/docs/guides/parameters"),
        ("caddy", "/docs/guides/proxy"),
        ("cap", "/docs/guides/keys"),
        ("Rotate key", "/docs/guides/keys"),
        ("insufficient_quota", "/docs/guides/errors"),
        ("/v1/embeddings", "/docs/api/embeddings"),
        ("use_insecure_channel", "/docs/guides/grpc"),
    ],
)
def test_a_search_finds_the_page(query, path):
    assert path in [found.path.partition("#")[0] for found in DOCS.search(query)[:8]]


def test_a_search_shows_pages_with_the_word_before_those_with_a_longer_one():
    pages = [found.page for found in DOCS.search("cap")]
    assert pages.index("API keys") < pages.index("vLLM and other engines")


def test_a_search_wants_every_word_and_shows_no_placeholder():
    assert DOCS.search("idempotency zebra") == []
    assert not [one for one in DOCS.search("model") if "XX" in one.excerpt or "{{" in one.excerpt]


def test_every_guide_is_in_the_contents():
    assert {entry.file for entry in ENTRIES if entry.file} == {path.name for path in GUIDES.glob("*.md")}
    assert len({entry.path for entry in ENTRIES}) == len(ENTRIES)
    assert all(name and entries for name, entries in GROUPS)


def test_colours_change_no_letter_of_a_program():
    for file in GUIDES.glob("*.md"):
        for language, text in re.findall(r"(?m)^```(\w*)[^\n]*\n(.*?)^```", file.read_text("utf-8"), re.DOTALL):
            shown = html.unescape(re.sub(r"</?span[^>]*>", "", highlight(text.rstrip("\n"), language)))
            assert shown == text.rstrip("\n"), (file.name, language)


def test_a_link_to_a_guide_that_is_not_there_is_an_error():
    assert "<a" not in write("# A\n\n[b](../B.md)", {}).html
    with pytest.raises(KeyError):
        write("# A\n\n[b](b.md)", {})


def test_a_placeholder_that_is_not_known_is_an_error():
    with pytest.raises(KeyError):
        marked("{{base_uri}}")


def test_the_reference_has_every_endpoint_once():
    paths = json.loads(openapi())["paths"]
    asked = [(method.upper(), path) for path, methods in paths.items() for method in methods]
    assert {kind_of(path) for _, path in asked} == set(KINDS)
    told = re.findall(
        r'docs-method">(\w+)</span> <code>([^<]+)</code></p>',
        "".join(read(path).html for path in DOCS.reference.paths),
    )
    assert sorted(told) == sorted(asked)
    overview = read("/docs/api").text
    assert [path for _, path in asked if path not in overview] == []


def test_the_reference_tells_of_fields_and_types():
    text = " ".join(read("/docs/api/chat").text.split())
    assert "temperature number, 0 to 2 Honoured" in text
    assert "messages required list of SystemMessage or DeveloperMessage or" in text
    assert "type-UserMessage" in read("/docs/api/chat").ids


def test_every_proto_is_there_to_download_with_its_licence():
    folder = Path(__file__).parents[2] / "src/leadline/dialects/xai/protos"
    assert set(protos()) == {str(path.relative_to(folder)) for path in folder.rglob("*.proto")}
    for name, proto in protos().items():
        assert proto.text.startswith("// SPDX-License-Identifier: Apache-2.0\n")
        assert proto.text.endswith((folder / name).read_text("utf-8"))
        assert f"/docs/protos/{name}" in read("/docs/protos").links
    assert protos()["xai/api/v1/chat.proto"].services == ("Chat",)


@pytest.mark.parametrize("name", ["", "..", "../__init__.py", "descriptors.binpb", "/etc/passwd", "xai/api/v1", "\0"])
def test_nothing_else_can_be_downloaded(name):
    assert DOCS.download(f"/docs/protos/{name}") is None


def test_every_configuration_in_the_guides_is_one(tmp_path):
    told = programs("TOML")
    assert len(told) >= 8
    for number, (_, one) in enumerate(told):
        (file := tmp_path / f"{number}.toml").write_text(one.text, "utf-8")
        load(file, {})


def test_the_quickstart_asks_whole_and_streamed_in_five_ways():
    labels = [one.label for one in read("/docs/quickstart").programs if one.language and not one.illustrative]
    assert labels == ["curl", "Python", "JavaScript", "Anthropic", "xai-sdk"] * 2


def test_few_programs_are_not_run_and_they_say_why():
    told = {one.label for path in ARTICLES for one in read(path).programs if one.illustrative}
    assert told == {
        "Shell: run by an administrator of the server",
        "Shell: your key stands in place of the dots",
        "Shell: it needs vLLM and a GPU",
    }


def test_every_command_in_the_guides_is_one():
    lines = [
        (path, line.partition("#")[0].split())
        for path, one in programs("Shell")
        for line in one.text.replace("\\\n", " ").splitlines()
        if line.startswith("leadline ")
    ]
    assert len(lines) >= 8
    for path, (_, *words) in lines:
        command: click.Command = cli
        while isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        options = {name for option in command.params for name in option.opts}
        assert [word for word in words if word.startswith("--") and word not in options] == [], (path, words)


FACTS = {
    "a field is wrong or not supported": errors.InvalidRequest("x", "y"),
    "this request broke the engine twice": errors.InvalidRequest("x"),
    "two different keys in two headers": errors.InvalidRequest("x"),
    "no key; wrong, disabled, expired, revoked": errors.Unauthenticated(),
    "the key may not use this endpoint or model, or its organisation is suspended": errors.PermissionDenied(),
    "no such model": errors.ModelNotFound(),
    "no such previous_response_id": errors.PreviousResponseNotFound(),
    "no such path or stored thing, or somebody else's": errors.NotFound(),
    "wrong method": errors.WrongMethod("x", "GET"),
    "Idempotency-Key reused for another request": errors.IdempotencyConflict(),
    "body larger than 32 MiB, file larger than 50 MB": errors.RequestTooLarge(),
    "content type is not JSON": errors.NotJson(),
    "out of credits; the key's cap, or the organisation's limit of the month, is spent": errors.InsufficientCredits(),
    "credits, cap or limit held by own running requests": errors.CreditsHeld(),
    "over a limit, also that of files": errors.RateLimited("x", 1),
    "our own fault, such as a file damaged on our disk": errors.InternalError(),
    "the engine broke": errors.EngineFailed(),
    "no engine ready, overloaded, no room for a file": errors.Unavailable(),
    "engine or body too slow": errors.DeadlineExceeded(),
}
# Where Anthropic's status is another one, the document says so below its table.
ANTHROPICS = {429: 402, 503: 529}


def test_the_table_of_errors_is_what_the_code_answers():
    text = (GUIDES / "errors.md").read_text("utf-8")
    rows = [
        [re.sub(r"`|\s*\(\d\)", "", cell).strip() for cell in line.strip("|").split("|")]
        for line in text.partition("| what happened |")[2].partition("\n\n")[0].splitlines()[2:]
    ]
    assert {row[0] for row in rows} == set(FACTS)
    for happened, status, slug, type_, of_anthropic, of_grpc in rows:
        error = FACTS[happened]
        answered, body = openai_error(error, "id")
        told = json.loads(body)
        assert (str(answered), told["code"], told["error"]["type"]) == (status, slug, type_), happened
        if of_anthropic:
            theirs, body = anthropic_error(error, "id")
            assert json.loads(body)["error"]["type"] == of_anthropic, happened
            assert theirs in (answered, ANTHROPICS.get(answered)), happened
        if of_grpc:
            assert code_of(error).name == of_grpc, happened
