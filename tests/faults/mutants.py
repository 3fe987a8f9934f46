"""Requests that went wrong on their way: valid ones of every endpoint and dialect, each with one or two things changed
in it. The same number always makes the same mutant."""

import copy
import gzip
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]
Headers = list[tuple[str, str]]

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
INPUT_TOKENS, EMBEDDINGS, TOKENIZE = "/v1/responses/input_tokens", "/v1/embeddings", "/v1/tokenize-text"
MESSAGES, COUNT_TOKENS, COMPLETE = "/v1/messages", "/v1/messages/count_tokens", "/v1/complete"

_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4AWNo+N8AAAQCAgC7yg/iAAAAAElFTkSuQmCC"
_SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 9}, "days": {"type": "array", "items": {"type": "integer"}}},
    "required": ["city"],
    "additionalProperties": False,
}
_FUNCTION = {"name": "weather", "description": "Of a city", "parameters": _SCHEMA, "strict": True}
_CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
_ANSWERED = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "How is it in Oslo?"}], "name": "mara"},
    {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [_CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
]
_DRAWN = {"temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1, "seed": 7, "presence_penalty": 1}
_ASK = [{"role": "user", "content": "hi there"}]
_SEEN = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}", "detail": "low"}}
_SHOWN = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": _PIXEL}}

# Valid bodies: the least, and those with nearly all fields. `schema` builds grammars, `eyes` sees.
BODIES: list[tuple[str, Json]] = [
    (CHAT, {"model": "echo", "messages": _ASK}),
    (
        CHAT,
        {"model": "echo", "messages": _ANSWERED, "tools": [{"type": "function", "function": _FUNCTION}], "n": 2}
        | {"tool_choice": {"type": "function", "function": {"name": "weather"}}, "parallel_tool_calls": False}
        | {"stop": ["x", "y"], "logit_bias": {"5": 1}, "frequency_penalty": 0.5, "max_completion_tokens": 9, **_DRAWN},
    ),
    (
        CHAT,
        {"model": "echo", "messages": _ASK, "stream": True, "stream_options": {"include_usage": True}}
        | {"max_tokens": 9, "logprobs": True, "top_logprobs": 2, "reasoning_effort": "low", "user": "u"},
    ),
    (
        CHAT,
        {"model": "schema", "messages": _ASK}
        | {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": _SCHEMA}}},
    ),
    (CHAT, {"model": "schema", "messages": _ASK, "functions": [_FUNCTION], "function_call": {"name": "weather"}}),
    (CHAT, {"model": "eyes", "messages": [{"role": "user", "content": [{"type": "text", "text": "?"}, _SEEN]}]}),
    (COMPLETIONS, {"model": "echo", "prompt": "a b c"}),
    (
        COMPLETIONS,
        {"model": "echo", "prompt": ["a b", "c"], "n": 2, "max_tokens": 9, "echo": True, "stop": "x", "stream": True}
        | {"stream_options": {"include_usage": True}, "best_of": 2, "suffix": "", "logit_bias": {"5": 1}, **_DRAWN},
    ),
    (COMPLETIONS, {"model": "echo", "prompt": [[1, 2], [3]], "logprobs": 2}),
    (RESPONSES, {"model": "echo", "input": "hi there"}),
    (
        RESPONSES,
        {"model": "echo", "instructions": "Be brief.", "stream": True, "store": True, "max_output_tokens": 9}
        | {"tools": [{"type": "function", **_FUNCTION}], "tool_choice": {"type": "function", "name": "weather"}}
        | {"text": {"format": {"type": "json_schema", "name": "n", "schema": _SCHEMA}, "verbosity": "low"}}
        | {"reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}, "truncation": "auto"}
        | {"include": ["message.output_text.logprobs"], "top_logprobs": 1, "temperature": 1, "top_p": 1, "n": 1}
        | {
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "How is it in Oslo?"}]},
                {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
                {"type": "function_call", "call_id": "c", "name": "weather", "arguments": '{"city":"Oslo"}'},
                {"type": "function_call_output", "call_id": "c", "output": "rain"},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Rain."}]},
                {"type": "message", "role": "user", "content": "and now?"},
            ]
        },
    ),
    (
        RESPONSES,
        {
            "model": "eyes",
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": f"data:image/png;base64,{_PIXEL}"}]}
            ],
        },
    ),
    (INPUT_TOKENS, {"model": "echo", "input": "hi there", "instructions": "Be brief."}),
    (EMBEDDINGS, {"model": "embed", "input": ["a b", "c"], "encoding_format": "base64", "dimensions": 2, "user": "u"}),
    (EMBEDDINGS, {"model": "embed", "input": [[1, 2], [3]]}),
    (TOKENIZE, {"model": "echo", "text": "one two", "user": "u"}),
    (MESSAGES, {"model": "echo", "max_tokens": 9, "messages": _ASK}),
    (
        MESSAGES,
        {"model": "echo", "max_tokens": 2000, "system": [{"type": "text", "text": "Be brief."}], "stream": True}
        | {"tools": [{"name": "weather", "description": "Of a city", "input_schema": _SCHEMA, "type": "custom"}]}
        | {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}, "stop_sequences": ["x"]}
        | {"thinking": {"type": "enabled", "budget_tokens": 1024}, "output_config": {"effort": "high"}}
        | {"temperature": 1, "top_p": 0.9, "top_k": 5, "metadata": {"user_id": "u"}}
        | {
            "messages": [
                {"role": "user", "content": "How is it in Oslo?"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "thinking", "thinking": "hm", "signature": "s"},
                        {"type": "text", "text": "Let me look."},
                        {"type": "tool_use", "id": "c", "name": "weather", "input": {"city": "Oslo"}},
                    ],
                },
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "rain"}]},
                        {"type": "text", "text": "and now?", "cache_control": {"type": "ephemeral"}},
                    ],
                },
            ]
        },
    ),
    (MESSAGES, {"model": "eyes", "max_tokens": 9, "messages": [{"role": "user", "content": [_SHOWN]}]}),
    (
        MESSAGES,
        {"model": "schema", "max_tokens": 9, "messages": _ASK}
        | {"output_config": {"format": {"type": "json_schema", "schema": _SCHEMA}}},
    ),
    (COUNT_TOKENS, {"model": "echo", "messages": _ASK, "system": "Be brief."}),
    (
        COMPLETE,
        {"model": "echo", "prompt": "Be brief.\n\nHuman: hi there\n\nAssistant:", "max_tokens_to_sample": 9}
        | {"stop_sequences": ["x"], "temperature": 1, "top_p": 1, "top_k": 5, "metadata": {"user_id": "u"}},
    ),
]
# What has no body. `{}` stands for an id.
READS = [
    *(("GET", path) for path in ("/v1/models", "/v1/language-models", "/v1/embedding-models", "/v1/api-key", "/v1/me")),
    *(("GET", path) for path in ("/v1/image-generation-models", "/openapi.json")),
    *(("GET", f"/v1/{kind}/{{}}") for kind in ("models", "language-models", "embedding-models")),
    *(("GET", f"/v1/{kind}/{{}}") for kind in ("image-generation-models", "chat/deferred-completion", "responses")),
    *(("GET", f"/v1/batches{end}") for end in ("", "/{}", "/{}/requests", "/{}/results")),
    ("POST", "/v1/batches/{}:cancel"),
    ("GET", "/v1/responses/{}/input_items"),
    ("DELETE", "/v1/responses/{}"),
    ("POST", "/v1/responses/{}/cancel"),
]


@dataclass(frozen=True)
class Mutant:
    """A request over raw HTTP/1.1. `must`: whether it has to be taken or refused, where that is known; `fields` are the
    fields at the top that were touched; `kind` is what was done."""

    kind: str
    method: str
    path: str
    body: bytes | None = None
    headers: Headers = field(default_factory=list)
    chunks: bool = False
    must: str | None = None
    fields: frozenset[str] = frozenset()

    def raw(self, key: str) -> bytes:
        headers = [("Host", "test"), ("Connection", "close")]
        names = {name.lower() for name, _ in self.headers}
        if not names & {"authorization", "x-api-key"}:
            headers.append(("Authorization", f"Bearer {key}"))
        if self.body is not None and "content-type" not in names:
            headers.append(("Content-Type", "application/json"))
        headers += [(name, value.replace("{key}", key)) for name, value in self.headers]
        body = self.body or b""
        if self.chunks:
            headers.append(("Transfer-Encoding", "chunked"))
            pieces = [body[at : at + 7] for at in range(0, min(len(body), 700), 7)] + [body[700:]]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece) + b"0\r\n\r\n"
        elif self.body is not None:
            headers.append(("Content-Length", str(len(body))))
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def mutant(number: int) -> Mutant:
    rng = random.Random(number)
    if rng.random() < 0.12:
        return _odd_read(rng)
    path, body = rng.choice(BODIES)
    if rng.random() < 0.55:
        return _odd_value(rng, path, body)
    return _odd_request(rng, path, json.dumps(body).encode())


# JSON


class _Written(str):
    """JSON that is written as it stands."""


def _encoded(value: Any) -> bytes:
    """JSON, in which a key that ends in U+0001 and more is written without that: so it can be there twice."""
    match value:
        case _Written():
            return value.encode("utf-8", "surrogatepass")
        case dict():
            members = (
                json.dumps(name.partition("\x01")[0]).encode() + b":" + _encoded(one) for name, one in value.items()
            )
            return b"{" + b",".join(members) + b"}"
        case list():
            return b"[" + b",".join(map(_encoded, value)) + b"]"
        case _:
            return json.dumps(value).encode()


_NEVER_JSON = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "01", "1.", ".5", "+1", "0x10", "'x'", "undefined"]
_NEVER_JSON += ["nul", "True", '"\\ud800"', '"a\\udfff"', '"\\x"', '"\t"', "[1,]", "{,}", '{"a"}', "9" * 5000, "//"]
_ODD: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 9, 3.5, -0.0, 1e300, 5e-324, 2**31, 2**53 + 1, 2**63, 2**64, -(2**63) - 1),
    *("", "x", " ", "\x00", "a\x00b", "none", "auto", "required", "high", "\u202e", "\ufeff", "😀" * 50, "%s%n{}", "5"),
    *("a" * 300, "word " * 30, "../../etc/passwd", "<|im_start|>system", "' OR 1=1 --", "${7*7}", "{{7*7}}", "null"),
    *({}, [], [[]], [{}], [None], ["a"], ["a", 1], [1], [[1]], [True], {"": ""}, {"a": None}, {"type": "text"}),
    *({"type": None}, {"type": 5}, {"type": "x"}, {"type": "function"}, {"role": "user"}, {"text": 5}, {"url": ""}),
    *({"type": "json_schema"}, {"type": "json_object"}, {"effort": "low"}, {"type": "adaptive"}, {"id": "x"}),
    *({"5": 1}, {"5": 101}, {"type": "item_reference", "id": "msg_x_0"}, [{"type": "item_reference", "id": "x"}]),
    *(["a"] * 9, ["a"] * 129, [1] * 2000, [{"role": "user", "content": "x"}] * 40, {str(i): i for i in range(1100)}),
    [{"type": "function", "name": "f", "function": {"name": "f"}}] * 351,
    *({"type": "base64", "media_type": "image/png", "data": "@@@"}, {"type": "base64", "data": 5}, "data:image/png,x"),
    *("data:image/png;base64,@@@", "http://127.0.0.1:1/x", "file:///etc/passwd", "ftp://x/y", "data:", "http://[::1"),
]
# Schemas made to hurt.
_EXPLODING: list[Any] = [
    {"$ref": "#"},
    {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
    {"$ref": "http://127.0.0.1/schema"},
    {"type": "object", "properties": {f"p{i}": {"type": "string", "maxLength": 2048} for i in range(400)}},
    {"anyOf": [{"const": i} for i in range(3000)]},
    {"allOf": [{"anyOf": [{"minLength": 1}, {"maxLength": 2}]} for _ in range(60)]},
    {"pattern": "(a+)+$"},
    {"type": "string", "pattern": "(" * 500},
    {"type": "array", "items": {"type": "array", "minItems": 256, "items": {"type": "array", "minItems": 256}}},
    {"enum": []},
    {"enum": ["x" * 9] * 5000},
    {"type": ["string", "nonsense"]},
    {"type": 5},
    {"properties": []},
    {"required": "city"},
    {"minimum": 10**400},
    {"type": "integer", "minimum": 5, "maximum": 4},
    {"not": {}},
    True,
]


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something lies, from the top."""
    if at:
        yield at
    if isinstance(value, dict | list):
        for name, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places(one, (*at, name))


def _odd_value(rng: random.Random, path: str, body: Json) -> Mutant:
    body = copy.deepcopy(body)
    places = list(_places(body))
    at = rng.choice(places)
    if rng.random() < 0.3:
        at = at[:1]
    holder = body
    for name in at[:-1]:
        holder = holder[name]
    kind, must, touched = rng.choice(_CHANGES)(rng, holder, at[-1], body)
    return Mutant(kind, "POST", path, _encoded(body), must=must, fields=frozenset((touched or at[0],)))


# What was done, whether that must be taken or refused, and the field at the top if it is another one.
Done = tuple[str, str | None, str | None]
Change = Callable[[random.Random, Any, Any, Json], Done]


def _replace(rng: random.Random, holder: Any, name: Any, _: Json) -> Done:
    holder[name] = copy.deepcopy(rng.choice(_ODD))
    return "another value", None, None


def _spoil(rng: random.Random, holder: Any, name: Any, _: Json) -> Done:
    holder[name] = _Written(rng.choice(_NEVER_JSON))
    return "no JSON", "refused", None


def _spell(rng: random.Random, holder: Any, name: Any, _: Json) -> Done:
    """The same value in another type."""
    value = holder[name]
    holder[name] = rng.choice([str(value), [value], {"value": value}, {str(name): value}, [[value]], value == 0])
    return "another type", None, None


def _remove(_rng: random.Random, holder: Any, name: Any, _: Json) -> Done:
    del holder[name]
    return "missing", None, None


def _twice(rng: random.Random, holder: Any, name: Any, _: Json) -> Done:
    if isinstance(holder, list):
        holder.extend([holder[name]] * rng.choice([1, 8, 200]))
        return "repeated", None, None
    holder[f"{name}\x01"] = copy.deepcopy(rng.choice([holder[name], None, 5]))
    return "duplicate key", "refused", None


def _extra(rng: random.Random, holder: Any, _name: Any, body: Json) -> Done:
    """An unknown field at the top has no effect."""
    holder = body if rng.random() < 0.5 or not isinstance(holder, dict) else holder
    holder[rng.choice(["unheard_of", "", "__proto__", "constructor", "a\x00b", "é" * 40])] = rng.choice(_ODD)
    return "unknown field", "taken" if holder is body else None, None


def _nest(rng: random.Random, holder: Any, name: Any, _: Json) -> Done:
    depth = rng.choice([70, 200, 5000, 60_000])
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}")])
    inside = "" if opening == "[" else "1"
    holder[name] = _Written(opening * depth + inside + closing * depth)
    return "deep nesting", "refused", None


def _bloat(rng: random.Random, holder: Any, name: Any, _: Json) -> Done:
    holder[name] = rng.choice(["a" * 200_000, "wörd " * 30_000, ["a"] * 50_000, [[]] * 120_000, {"a" * 100_000: 1}])
    return "large", None, None


def _explode(rng: random.Random, holder: Any, name: Any, body: Json) -> Done:
    """In place of every schema, or of what stands here."""
    schema, field = rng.choice(_EXPLODING), None
    for place in list(_places(body)):
        if place[-1] in ("schema", "parameters", "input_schema"):
            there: Any = body
            for step in place[:-1]:
                there = there.get(step) if isinstance(there, dict) else there[step]
            if isinstance(there, dict) and isinstance(there.get(place[-1]), dict):
                there[place[-1]], field = copy.deepcopy(schema), place[0]
                break
    if field is None:
        holder[name] = copy.deepcopy(schema)
    return "exploding schema", None, field


_CHANGES: list[Change] = [_replace] * 6 + [_spoil, _spell, _spell, _remove, _remove, _twice, _extra, _nest, _bloat]
_CHANGES += [_explode, _explode]


# HTTP

_IDS = [
    "echo",
    "echo-latest",
    "claude-x",
    "resp_x",
    "a/b",
    "a%2Fb",
    "%00",
    "a%00b",
    "..",
    "%2e%2e%2f",
    "%ff%fe",
    "é",
    "*",
]
_IDS += [
    "a" * 3000,
    "%20",
    "0" * 32,
    "resp_" + "0" * 32,
    "00000000-0000-0000-0000-000000000000",
    "{id}",
    "%",
    "%zz",
    "'",
]
_IDS += [
    "resp_" + "f" * 33,
    "null",
    "x?y",
    "-1",
    "%F0%9F%98%80",
    "echo%0d%0aX:y",
    "resp_\u00bd",
    ";",
    "a;b=c",
    "input_items",
]
_QUERIES = [
    "",
    "",
    "?limit=1",
    "?limit=0",
    "?limit=-1",
    "?limit=1e3",
    "?limit=NaN",
    "?limit=9" * 3,
    "?after=echo",
    "?after",
]
_QUERIES += [
    "?after=%00",
    "?order=up",
    "?order=asc&order=desc",
    "?stream=true",
    "?starting_after=x&stream=true",
    "?&&==&",
]
_QUERIES += [
    "?limit=%ff",
    "?before_id=echo",
    "?after_id=%ff",
    "?stream=true&starting_after=-5",
    "?" + "a=b&" * 500,
    "?a[]=1",
]
_QUERIES += ["?limit=\u0665", "?limit=" + "9" * 5000, "?pagination_token=x", "?include=a&include=b", "?stream=TRUE"]
_METHODS = ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "POST", "PROPFIND"]
_HARMLESS_HEADERS: list[Headers] = [
    [("Content-Type", "application/json; charset=utf-8")],
    [("Content-Type", "APPLICATION/JSON")],
    [("Accept", "text/plain;q=0.1, */*;q=0")],
    [("Accept-Encoding", "gzip, br, zstd")],
    [("anthropic-version", "never")],
    [("anthropic-beta", "a,b,,c")],
    [("User-Agent", "\xff\xfe")],
    [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https"), ("Forwarded", "for=x")],
    [("X-Request-Id", "mine")],
    [("X-Http-Method-Override", "DELETE")],
    [("Cookie", "a=" + "b" * 4000)],
    [("X-Long", "x" * 20_000)],
    [("Authorization", "Bearer {key}"), ("x-api-key", "{key}")],
    [("Authorization", ""), ("x-api-key", "{key}")],
    [("authorization", "bEaReR   {key}")],
    [("Range", "bytes=0-1")],
    [("If-None-Match", "*")],
    [("Origin", "null"), ("Sec-Fetch-Mode", "cors")],
    [("Expect", "")],
    [(f"X-{i}", "y") for i in range(80)],
]
_REFUSED_HEADERS: list[Headers] = [
    [("Content-Type", content_type)]
    for content_type in ("", "text/plain", "application/x-www-form-urlencoded", "application/xml", "*/*", "json")
] + [
    [("Content-Type", "multipart/form-data; boundary=x")],
    [("Content-Type", "application/json-seq")],
    [("Content-Type", "application/json\x80")],
    [("Authorization", "Bearer {key}"), ("x-api-key", "other")],
    [("Authorization", "Basic {key}")],
    [("Authorization", "Bearer")],
    [("Authorization", "Bearer \xff\xfe")],
    [("Authorization", "Bearer {key}x")],
    [("x-api-key", "ll_" + "0" * 46)],
    [("x-api-key", "a" * 9000)],
    [("x-api-key", "'; DROP TABLE keys; --")],
    [("Authorization", "Bearer a b c")],
]


def _odd_request(rng: random.Random, path: str, body: bytes) -> Mutant:
    plain = Mutant("", "POST", path, body)
    return rng.choice(_WAYS)(rng, plain)


def _truncated(rng: random.Random, plain: Mutant) -> Mutant:
    assert plain.body is not None
    return replace(plain, kind="truncated", body=plain.body[: rng.randrange(len(plain.body))], must="refused")


def _bytes(rng: random.Random, plain: Mutant) -> Mutant:
    body = bytearray(plain.body or b"")
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(body))
        match rng.randrange(3):
            case 0:
                body[at] = rng.randrange(256)
            case 1:
                del body[at]
            case _:
                body.insert(at, rng.randrange(256))
    return replace(plain, kind="odd bytes", body=bytes(body))


def _encoding(rng: random.Random, plain: Mutant) -> Mutant:
    text = (plain.body or b"").decode()
    encoded: list[tuple[bytes, Headers]] = [
        (text.encode("utf-16"), []),
        (text.encode("utf-32-le"), [("Content-Type", "application/json; charset=utf-32")]),
        (b"\xef\xbb\xbf" + text.encode(), []),
        (gzip.compress(text.encode()), [("Content-Encoding", "gzip")]),
        (gzip.compress(bytes(20_000_000), 9), [("Content-Encoding", "gzip")]),
        (text.encode().replace(b"e", b"\xe9"), [("Content-Type", "application/json; charset=latin-1")]),
        (text.encode().replace(b"o", b"\xc0\xaf"), []),
        (text.encode().replace(b"d", b"\xed\xa0\x80"), []),
        (text.encode().replace(b'"model"', b'"model\x00"', 1), []),
        (b"", []),
        (b" \n", []),
        (b"\x00" * 100, []),
        (text.encode() + b"x", []),
        (text.encode() * 2, []),
        (b"[" + text.encode() + b"]", []),
        *((value, []) for value in (b"null", b"true", b"5", b'"x"', b"[]", b"{}")),
    ]
    body, headers = rng.choice(encoded)
    return replace(plain, kind="encoding", body=body, headers=headers, must="refused")


def _harmless(rng: random.Random, plain: Mutant) -> Mutant:
    body = plain.body or b""
    match rng.randrange(4):
        case 0:
            return replace(plain, kind="chunked", chunks=True, must="taken")
        case 1:
            return replace(plain, kind="white space", body=b" \r\n\t" + body + b"\n" * 9, must="taken")
        case 2:
            path = rng.choice(
                [
                    plain.path + "/",
                    "/" + plain.path,
                    "/%2f" + plain.path,
                    "/v1" + plain.path,
                    plain.path + "?x=%ff&limit=-1",
                ]
            )
            return replace(plain, kind="spelled path", path=path, must="taken")
        case _:
            return replace(plain, kind="odd headers", headers=rng.choice(_HARMLESS_HEADERS), must="taken")


def _headers(rng: random.Random, plain: Mutant) -> Mutant:
    return replace(plain, kind="wrong headers", headers=rng.choice(_REFUSED_HEADERS), must="refused")


def _idempotency(rng: random.Random, plain: Mutant) -> Mutant:
    """Other bodies come under the same few keys."""
    key = rng.choice(["k", "\xff", "a" * 5000, "k k", "'", "-1", str(rng.randrange(5))])
    return replace(plain, kind="idempotency", headers=[("Idempotency-Key", key)])


def _method(rng: random.Random, plain: Mutant) -> Mutant:
    method = rng.choice(_METHODS)
    return replace(plain, kind="method", method=method, must=None if method == "POST" else "refused")


def _path(rng: random.Random, plain: Mutant) -> Mutant:
    path = plain.path
    odd = [
        path + "%00",
        path + "x",
        path.upper(),
        path.replace("/v1", "/v2"),
        path + "/..",
        path + "/%2e",
        "/v1",
        "/v1/",
    ]
    odd += ["/" + "a" * 20_000, "/v1/responses/x/y", "/%ff", "/v1/./chat", path[1:] + "*"]
    path = rng.choice(odd)
    return replace(plain, kind="path", path=path if path.startswith("/") else "/" + path, must="refused")


def _oversize(rng: random.Random, plain: Mutant) -> Mutant:
    """Rarely: it takes its time."""
    if rng.random() < 0.96:
        return _truncated(rng, plain)
    body = b" " * (32 * 1024 * 1024 + 1)
    return replace(plain, kind="oversize", body=body, chunks=rng.random() < 0.5, must="refused")


_WAYS = [_truncated, _truncated, _bytes, _bytes, _bytes, _encoding, _encoding, _harmless, _harmless, _headers]
_WAYS += [_idempotency, _method, _path, _oversize]


def _odd_read(rng: random.Random) -> Mutant:
    method, path = rng.choice(READS)
    path = path.replace("{}", rng.choice(_IDS)) + rng.choice(_QUERIES)
    headers: Headers = [("anthropic-version", "2023-06-01")] if rng.random() < 0.3 else []
    if rng.random() < 0.15:
        method = rng.choice(_METHODS)
    if rng.random() < 0.1:
        headers += rng.choice(_REFUSED_HEADERS[-8:])
    return Mutant("a read", method, path.replace(" ", "%20"), headers=headers)
