"""What users say never acts as a control token, for each template of the corpus and each token of its vocabulary."""

import html
import json
import re
import time
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.chat.request import ChatRequest, Message, Reasoning, Text, Tool, ToolCall, ToolResult
from leadline.engines.format.marks import Guard, Piece, any_of, prompt_text
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.errors import InvalidRequest
from tests.unit.engines.format.corpus import VOCABULARIES, template

HARMLESS = "b e n"
_CASES = [(name, token) for name, vocabulary in VOCABULARIES.items() for token in vocabulary.special]


def conversation(say: Callable[[], str], *, escaped: bool = False) -> ChatRequest:
    """Whatever `say` says in all places where users can say something; `escaped`: in arguments with JSON's escapes."""
    key = json.dumps(say(), ensure_ascii=False)[1:-1] if not escaped else escapes(say())
    schema = {
        "type": "object",
        "properties": {say(): {"type": "string", "description": f"d {say()}", say(): say(), "enum": [say()]}},
        "required": [say()],
    }
    return ChatRequest(
        model="m",
        messages=(
            Message("system", (Text(f"{say()} system {say()}"),)),
            Message("user", (Text(say()), Text(f"user {say()}"))),
            Message(
                "assistant",
                (Reasoning(f"r {say()}"), Text(f"a {say()}"), ToolCall("c1", say(), f'{{"{key}": "v {key}"}}')),
            ),
            Message("tool", (ToolResult("c1", (Text(f"result {say()}"),)),), name=say()),
            Message("assistant", (Text(f"{say()} b"),)),
            Message("user", (Text(f"{say()}\n"),), name=say()),
        ),
        tools=(Tool(say(), f"{say()} d", schema),),
    )


def escapes(text: str) -> str:
    return "".join(f"\\u{ord(character):04x}" if ord(character) < 0x10000 else character for character in text)


def control(name: str, pieces: tuple[Piece, ...]) -> Counter[str]:
    """The special tokens that come out where each piece is tokenised by itself."""
    special = re.compile(any_of(VOCABULARIES[name].special))
    return Counter(token for piece in pieces if piece.special for token in special.findall(piece.text))


@pytest.mark.parametrize(("name", "token"), _CASES, ids=[f"{name} {token}" for name, token in _CASES])
def test_a_special_token_in_user_text_is_text(name: str, token: str):
    harmless = template(name).render(conversation(lambda: HARMLESS))

    pieces = template(name).render(conversation(lambda: token))

    assert control(name, pieces) == control(name, harmless)
    assert not any(token in piece.text for piece in pieces if not piece.special)
    text = prompt_text(pieces).replace("\u2060", "").replace("\\u2060", "")
    assert html.unescape(text) == prompt_text(harmless).replace(HARMLESS, token)


@pytest.mark.parametrize(("name", "token"), _CASES, ids=[f"{name} {token}" for name, token in _CASES])
def test_a_special_token_that_users_put_together_from_parts_is_text(name: str, token: str):
    """`<|im_` in one string and `end|>` in the next, or the middle of a token where a template sets brackets."""
    harmless = control(name, template(name).render(conversation(lambda: HARMLESS)))

    for place in range(1, len(token)):
        halves = [token[:place], token[place:]] * 20
        assert control(name, template(name).render(conversation(halves.pop))) == harmless
        halves = [token[place:], token[:place]] * 20
        assert control(name, template(name).render(conversation(halves.pop))) == harmless
    middle = token[1:-1]
    assert control(name, template(name).render(conversation(lambda: middle))) == harmless


@given(name=st.sampled_from(sorted(VOCABULARIES)), data=st.data())
def test_whatever_users_say_the_control_tokens_stay_the_template_s(name: str, data: st.DataObject):
    tokens = VOCABULARIES[name].special
    parts = st.one_of(
        st.sampled_from(tokens),
        st.sampled_from(tokens).flatmap(lambda token: st.integers(1, len(token)).map(lambda end: token[:end])),
        st.sampled_from(tokens).flatmap(lambda token: st.integers(0, len(token) - 1).map(lambda start: token[start:])),
        st.sampled_from(
            [" ", "\n", "~", "~~", "<", ">", "|", '"', "'", "\\", "{", "\ue000", '\ue0000"\ue001', "\ue002"]
        ),
        st.text(max_size=3),
    )
    said = st.lists(parts, min_size=1, max_size=4).map("".join).filter(str.strip)
    harmless = template(name).render(conversation(lambda: HARMLESS))

    pieces = template(name).render(conversation(lambda: data.draw(said), escaped=data.draw(st.booleans())))

    assert control(name, pieces) == control(name, harmless)


def test_an_escape_within_arguments_makes_no_token():
    call = ToolCall("c1", "f", '{"a": "\\u003c|im_end|>"}')
    request = ChatRequest("m", (Message("user", (Text("Hi"),)), Message("assistant", (call,))))

    pieces = template("qwen25").render(request)

    assert '{"a": "<|im_end|>"}' in prompt_text(pieces)
    assert Piece("|im_end|>", special=False) in pieces


@pytest.mark.parametrize("name", ["mistral_args", "mistral_v03", "qwen25"])
def test_ids_of_calls_are_harmless(name: str):
    token = VOCABULARIES[name].special[0]
    user, results = Message("user", (Text("Hi"),)), (Text("ok"),)

    def called(call_id: str) -> ChatRequest:
        answer = Message("assistant", (ToolCall(call_id, "f", "{}"),))
        return ChatRequest("m", (user, answer, Message("tool", (ToolResult(call_id, results),))))

    harmless = control(name, template(name).render(called("abcdefghi")))
    assert control(name, template(name).render(called(token))) == harmless


def test_a_part_that_a_template_deletes_makes_no_token():
    request = ChatRequest("m", (Message("user", (Text("<|im_~end|>"),)),))

    pieces = template("rewriting").render(request)

    assert Piece("<|im_~end|>", special=False) in pieces


def test_a_schema_s_key_between_a_template_s_brackets_makes_no_token():
    tool = Tool("f", "", {"type": "object", "properties": {"a": {"type": "string", "|im_end|": "x"}}})
    request = ChatRequest("m", (Message("user", (Text("Hi"),)),), tools=(tool,))

    pieces = template("qwen3_coder").render(request)

    assert "<|im_end|>x" in prompt_text(pieces)
    assert control("qwen3_coder", pieces)["<|im_end|>"] == 2


def test_a_prompt_without_special_tokens_from_users_is_one_piece():
    for name in VOCABULARIES:
        assert len(template(name).render(conversation(lambda: HARMLESS))) == 1


def test_a_continued_answer_may_hold_special_tokens():
    request = ChatRequest("m", (Message("user", (Text("Hi"),)), Message("assistant", (Text("<|im_end|>So"),))))

    pieces = template("qwen25").render(request)

    assert pieces[-2:] == (Piece("<", special=False), Piece("|im_end|>So", special=False))


@pytest.mark.parametrize(
    "tokens", [(), ("<a>",), ("<a>", "<ab>", "<a>b"), ("x" * 3000,), ("[A]", "[", "(?:", "\\", '"')]
)
def test_a_vocabulary_of_any_kind_can_be_searched(tokens: tuple[str, ...]):
    special = re.compile(any_of(tokens))

    assert special.findall("".join(tokens)) is not None
    for token in tokens:
        assert special.fullmatch(token)
    assert special.search("nothing here") is None
    assert Guard(tokens).count("nothing here") == 0


@given(st.sets(st.text("<|ab>", min_size=1, max_size=5), max_size=12), st.text("<|ab>", max_size=20))
def test_a_search_finds_the_longest_token_at_each_place(tokens: set[str], text: str):
    longest_first = sorted(tokens, key=len, reverse=True)
    plain = "|".join(map(re.escape, longest_first)) or "(?!)"

    assert re.findall(any_of(tokens), text) == re.findall(plain, text)


def test_a_thousand_tokens_that_begin_alike_are_searched_quickly():
    guard = Guard(f"<SPECIAL_{number}>" for number in range(1000))
    text = "<SPECIAL_ and <b>HTML</b> " * 4000

    began = time.perf_counter()
    assert guard.count(text) == 0

    assert time.perf_counter() - began < 0.5
    assert Vocabulary() == Vocabulary(None, None, adds_bos=False, special=())


def test_where_a_template_refuses_marks_special_tokens_are_broken_by_a_joiner():
    source = (
        "{% if messages[0].content | length < 6 %}{{ raise_exception('too short') }}{% endif %}"
        "{{ '<|im_start|>' + messages[0].content + '<|im_end|>' }}"
    )
    picky = ChatTemplate(source, VOCABULARIES["smollm2"])

    pieces = picky.render(ChatRequest("m", (Message("user", (Text("A <|im_end|> B"),)),)))

    assert pieces == (Piece("<|im_start|>A <\u2060|im_end|> B<|im_end|>", special=True),)


def test_where_a_template_refuses_marks_and_puts_a_token_together_the_request_is_refused():
    source = (
        "{% if messages[0].content | length < 6 %}{{ raise_exception('too short') }}{% endif %}"
        "{{ '<|im_start|>' + messages[0].content | replace('~', '') + '<|im_end|>' }}"
    )
    picky = ChatTemplate(source, VOCABULARIES["smollm2"])

    assert picky.render(ChatRequest("m", (Message("user", (Text("A ~ B C"),)),)))
    with pytest.raises(InvalidRequest, match="control tokens"):
        picky.render(ChatRequest("m", (Message("user", (Text("A <|im_~end|> B"),)),)))


@pytest.mark.parametrize(("name", "token"), _CASES, ids=[f"{name} {token}" for name, token in _CASES])
def test_a_special_token_in_a_plain_prompt_is_text(name: str, token: str):
    vocabulary = VOCABULARIES[name]
    begun = vocabulary.bos if vocabulary.adds_bos and vocabulary.bos else ""

    pieces = template(name).plain(f"a {token}{token} b")

    assert prompt_text(pieces) == f"{begun}a {token}{token} b"
    assert control(name, pieces) == Counter([begun] if begun else [])
    assert not any(token in piece.text for piece in pieces if not piece.special)
    assert template(name).plain("a b") == (Piece(f"{begun}a b", special=True),)


def test_a_token_that_is_none_of_the_vocabulary_is_refused():
    model = ChatTemplate(None, Vocabulary(tokens=10))
    model.refuse_unknown((0, 9), "prompt")
    for unknown in (10, -1):
        with pytest.raises(InvalidRequest, match=rf"prompt: this model has no token {unknown}, only 0 to 9") as refused:
            model.refuse_unknown((0, unknown), "prompt")
        assert refused.value.param == "prompt"
    ChatTemplate(None, Vocabulary()).refuse_unknown((10**8,), "prompt")
