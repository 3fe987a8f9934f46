"""gRPC calls that went wrong on their way: valid ones of every method, each with something changed in its message, its
bytes or its metadata. The same number always makes the same mutant."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from leadline.dialects.xai.protos import METHODS, chat, embed, image, sample, usage
from leadline.dialects.xai.server import HANDLERS
from tests.conformance.xai.questions import ask, questions
from tests.conformance.xai.rpcs import Metadata

CHAT = "/xai_api.Chat/GetCompletion"
STREAM = "/xai_api.Chat/GetCompletionChunk"
_SCHEMA = '{"type":"object","properties":{"city":{"type":"string","maxLength":9}},"required":["city"]}'
_PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4AWNo+N8AAAQCAgC7yg/iAAAAAElFTkSuQmCC"
)
_CALL = chat.ToolCall(id="call_1", function=chat.FunctionCall(name="weather", arguments='{"city":"Oslo"}'))
_FULL = chat.GetCompletionsRequest(
    model="echo",
    messages=[
        chat.Message(role=chat.ROLE_SYSTEM, content=[chat.Content(text="Be brief.")]),
        chat.Message(role=chat.ROLE_USER, content=[chat.Content(text="How is it in Oslo?")], name="mara"),
        chat.Message(
            role=chat.ROLE_ASSISTANT,
            content=[chat.Content(text="well")],
            reasoning_content="hm",
            encrypted_content="aGVsbG8=",
            tool_calls=[_CALL],
        ),
        chat.Message(role=chat.ROLE_TOOL, content=[chat.Content(text="rain")], tool_call_id="call_1"),
        chat.Message(role=chat.ROLE_USER, content=[chat.Content(file=chat.FileContent(data=b"a;b", filename="a.csv"))]),
    ],
    **{"user": "u", "n": 2, "max_tokens": 9, "seed": 7, "stop": ["x", "y"], "temperature": 0.5, "top_p": 0.9},
    logprobs=True,
    top_logprobs=2,
    tools=[chat.Tool(function=chat.Function(name="weather", description="Of a city", parameters=_SCHEMA))],
    tool_choice=chat.ToolChoice(function_name="weather"),
    **{"frequency_penalty": 0.5, "presence_penalty": 1, "parallel_tool_calls": False, "store_messages": True},
    **{"use_encrypted_content": True, "max_turns": 2, "include": [7], "safety_identifier": "s"},
    reasoning_effort=chat.EFFORT_LOW,
    search_parameters=chat.SearchParameters(mode=chat.OFF_SEARCH_MODE),
    service_tier=usage.SERVICE_TIER_PRIORITY,
)
_FORMAT = chat.ResponseFormat(format_type=chat.FORMAT_TYPE_JSON_SCHEMA, schema=_SCHEMA)
_SEEN = chat.Content(image_url=image.ImageUrlContent(image_url=_PIXEL, detail=image.DETAIL_LOW))
# Valid calls: the least of every method, and some with nearly all fields. `schema` builds grammars, `eyes` sees.
CALLS: list[tuple[str, list[Any]]] = [
    *((path, messages) for path, messages in questions().items() if path in HANDLERS),
    *((path, [_FULL]) for path in (CHAT, STREAM, CHAT)),
    (CHAT, [ask("schema", response_format=_FORMAT)]),
    (CHAT, [ask("eyes", messages=[chat.Message(role=chat.ROLE_USER, content=[_SEEN, chat.Content(text="?")])])]),
    ("/xai_api.Chat/CompactContext", [chat.CompactContextRequest(model="echo", input=_FULL.messages)]),
    (
        "/xai_api.Sample/SampleText",
        [
            sample.SampleTextRequest(
                **{"model": "echo", "prompt": ["a b", "c"], "n": 2, "max_tokens": 9, "seed": 7, "stop": ["x"]},
                **{"temperature": 0.5, "top_p": 0.9, "frequency_penalty": 0.5, "presence_penalty": 1, "user": "u"},
            )
        ],
    ),
    (
        "/xai_api.Embedder/Embed",
        [embed.EmbedRequest(model="embed", input=[embed.EmbedInput(string="a b")], encoding_format=2, user="u")],
    ),
]


@dataclass(frozen=True)
class Mutant:
    """A call. `must`: whether it has to be taken or refused, where that is known; `field` is the field at the top that
    was touched, if it is a single one; `kind` is what was done."""

    kind: str
    path: str
    messages: tuple[Any, ...]
    metadata: Metadata = (("authorization", "Bearer {key}"),)
    must: str | None = None
    field: str | None = None


def mutant(number: int) -> Mutant:
    rng = random.Random(number)
    path, messages = rng.choice(CALLS)
    way = rng.choice(_WAYS)
    return way(rng, Mutant("", path, tuple(messages)))


# Fields

_TEXTS = ["", " ", "\x00", "a\x00b", "none", "\u202e", "\ufeff", "😀" * 50, "%s%n{}", "a" * 300, "ü" * 9000, "null"]
_TEXTS += ["word " * 30, "../../etc/passwd", "<|im_start|>system", "' OR 1=1 --", "{{7*7}}", "[]", '{"a":1,"a":2}']
_TEXTS += ["[" * 70, '{"a":' * 70 + "1" + "}" * 70, '{"type":5}', '{"$ref":"#"}', "9" * 5000, '{"a":NaN}', "data:,x"]
_TEXTS += ['{"type":"string","pattern":"' + "(" * 500 + '"}', "file:///etc/passwd", "resp_" + "0" * 32, "[" * 100_001]
_BYTES = [b"", b"\x00", b"\xff\xfe", b"%PDF-1.7\x00", b"x" * (1024 * 1024 + 1), b"\xef\xbb\xbfhi", b"a\r\n\x00"]
_FLOATS = [float("nan"), float("inf"), float("-inf"), -0.0, 1e-45, 3.4e38, -1.0, 2.0, 2.0001, 99.0]
_INTEGERS = [0, 1, -1, 2, 9, 128, 129, 350, 2**31 - 1, -(2**31)]
_LARGE = [2**63 - 1, -(2**63), 2**53 + 1]
_REPEATS = [2, 9, 129, 351, 2000]
_T = FieldDescriptor


def _odd_field(rng: random.Random, plain: Mutant) -> Mutant:
    copies = tuple(_copy(message) for message in plain.messages)
    places = [place for message in copies for place in _places(message, None)]
    if not places:
        return _bytes(rng, plain)
    holder, field, top = rng.choice(places)
    _change(rng, holder, field)
    return replace(plain, kind=f"odd {field.type}", messages=copies, field=top)


def _copy(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


def _places(message: Any, top: str | None) -> Iterator[tuple[Any, FieldDescriptor, str]]:
    """Every field of a message and of those in it that are set, with the name of the field at the top that holds it."""
    for field in message.DESCRIPTOR.fields:
        yield message, field, top or field.name
    for field, value in message.ListFields():
        if field.type == _T.TYPE_MESSAGE and not _is_map(field):
            for one in value if field.is_repeated else (value,):
                yield from _places(one, top or field.name)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _change(rng: random.Random, holder: Any, field: FieldDescriptor) -> None:
    if _is_map(field) or rng.random() < 0.15:
        holder.ClearField(field.name)
    elif field.is_repeated:
        values = getattr(holder, field.name)
        if rng.random() < 0.5 and len(values):
            values.extend([values[0]] * rng.choice(_REPEATS))
        elif field.type == _T.TYPE_MESSAGE:
            values.add()
        else:
            values.append(_value(rng, field))
    elif field.type == _T.TYPE_MESSAGE:
        getattr(holder, field.name).SetInParent()
        if rng.random() < 0.5:
            getattr(holder, field.name).Clear()
    else:
        setattr(holder, field.name, _value(rng, field))


def _value(rng: random.Random, field: FieldDescriptor) -> Any:
    match field.type:
        case _T.TYPE_STRING:
            return rng.choice(_TEXTS)
        case _T.TYPE_BYTES:
            return rng.choice(_BYTES)
        case _T.TYPE_FLOAT | _T.TYPE_DOUBLE:
            return rng.choice(_FLOATS)
        case _T.TYPE_BOOL:
            return rng.random() < 0.5
        case _T.TYPE_ENUM:
            return rng.choice([0, 1, 5, 99, -1, 2**31 - 1])
        case _T.TYPE_UINT32 | _T.TYPE_UINT64:
            return rng.choice([0, 1, 2**32 - 1])
        case _T.TYPE_INT64:
            return rng.choice(_INTEGERS + _LARGE)
        case _:
            return rng.choice(_INTEGERS)


# Bytes


def _bytes(rng: random.Random, plain: Mutant) -> Mutant:
    content = bytearray(plain.messages[0].SerializeToString())
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(content) + 1)
        match rng.randrange(3):
            case 0 if at < len(content):
                content[at] = rng.randrange(256)
            case 1 if at < len(content):
                del content[at]
            case _:
                content.insert(at, rng.randrange(256))
    return replace(plain, kind="odd bytes", messages=(bytes(content),))


def _truncated(rng: random.Random, plain: Mutant) -> Mutant:
    content = plain.messages[0].SerializeToString()
    return replace(plain, kind="truncated", messages=(content[: rng.randrange(len(content) + 1)],))


def _noise(rng: random.Random, plain: Mutant) -> Mutant:
    return replace(plain, kind="noise", messages=(rng.randbytes(rng.choice([1, 2, 9, 100, 5000])),))


def _nested(rng: random.Random, plain: Mutant) -> Mutant:
    """A message in itself, deeper than the library goes, or wider than it is long."""
    content = b""
    for _ in range(rng.choice([50, 150, 2000])):
        content = b"\x0a" + _varint(len(content)) + content
    return replace(plain, kind="nested", messages=(content,))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes((*out, number))


def _no_utf8(rng: random.Random, plain: Mutant) -> Mutant:
    content = plain.messages[0].SerializeToString()
    if (at := content.find(b"echo")) < 0:
        return _noise(rng, plain)
    broken = rng.choice([b"\xff\xfeho", b"\xc0\xafho", b"\xed\xa0\x80o", b"ech\xe9"])
    content = content[:at] + broken + content[at + 4 :]
    return replace(plain, kind="no UTF-8", messages=(content,), must="refused")


def _unknown_fields(rng: random.Random, plain: Mutant) -> Mutant:
    content = plain.messages[0].SerializeToString()
    more = rng.choice([b"\xc0\x3e\x05", b"\xc2\x3e\x03abc", b"\xc5\x3e\x00\x00\x80\x7f", b"\xc2\x3e\x03abc" * 500])
    return replace(plain, kind="unknown fields", messages=(more + content + more, *plain.messages[1:]), must="taken")


def _another_message(rng: random.Random, plain: Mutant) -> Mutant:
    _, messages = rng.choice(CALLS)
    return replace(plain, kind="another message", messages=(messages[0].SerializeToString(),))


def _another_count(rng: random.Random, plain: Mutant) -> Mutant:
    """No message at all, or more than the method takes."""
    count = rng.choice([0, 0, 2, 5])
    streams = METHODS[plain.path].client_streaming
    must = "refused" if count == 0 and not streams else None
    return replace(plain, kind=f"{count} messages", messages=plain.messages[:1] * count, must=must)


# Metadata

_KEY = ("authorization", "Bearer {key}")
_HARMLESS: list[Metadata] = [
    (_KEY, ("xai-sdk-version", "python/0.0.0"), ("xai-sdk-language", "x" * 4000)),
    (_KEY, ("trace-bin", bytes(range(256)) * 8)),
    (_KEY, ("x-request-id", "mine"), ("x-forwarded-for", "127.0.0.1"), ("content-length", "5")),
    (_KEY, *((f"x-{number}", "y") for number in range(80))),
    (_KEY, ("cookie", "a=b"), ("host", "x"), ("accept-encoding", "br")),
    (_KEY, ("x-api-key", "{key}"), ("x-api-key", "")),
    (_KEY, ("grpc-tags-bin", b"\xff\x00"), ("te", "trailers"), ("x-a", "1"), ("x-a", "2")),
]
_REFUSED: list[Metadata] = [
    (),
    (("authorization", ""),),
    (("authorization", "Basic {key}"),),
    (("authorization", "Bearer {key}x"),),
    (("authorization", "Bearer a b c"),),
    (("authorization-bin", b"Bearer {key}"),),
    (("x-api-key", "'; DROP TABLE keys; --"),),
    (("x-api-key", "a" * 6000),),
    (_KEY, ("x-api-key", "other")),
    (_KEY, ("authorization", "Bearer other")),
    (("idempotency-key", "k"),),
]


def _harmless(rng: random.Random, plain: Mutant) -> Mutant:
    return replace(plain, kind="odd metadata", metadata=rng.choice(_HARMLESS), must="taken")


def _metadata(rng: random.Random, plain: Mutant) -> Mutant:
    return replace(plain, kind="wrong metadata", metadata=rng.choice(_REFUSED), must="refused")


def _path(rng: random.Random, plain: Mutant) -> Mutant:
    service = plain.path.rpartition("/")[0]
    odd = [plain.path + "x", plain.path.upper(), plain.path + "/", "/", "/x", service + "/", "/" + "a" * 4000]
    odd += ["/xai_api.Chat/\u00e9", "/../" + plain.path[1:], plain.path + "?a=b", "/xai_api.Chat/%47etCompletion"]
    return replace(plain, kind="path", path=rng.choice(odd), must="refused")


_WAYS: list[Callable[[random.Random, Mutant], Mutant]] = [_odd_field] * 8
_WAYS += [_bytes, _bytes, _truncated, _noise, _nested, _no_utf8, _unknown_fields, _another_message, _another_count]
_WAYS += [_harmless, _metadata, _path]
