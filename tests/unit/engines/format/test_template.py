"""Conversations as prompts, in the templates of many families."""

# ruff: noqa: RUF001 (DeepSeek writes its tokens with a fullwidth bar)

import pytest

from leadline.chat.request import (
    Block,
    ChatRequest,
    Message,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from leadline.engines.format.marks import Piece, prompt_text
from leadline.engines.format.template import ChatTemplate, TemplateUnusable, Vocabulary
from leadline.errors import InvalidRequest
from tests.unit.engines.format.corpus import NOON, VOCABULARIES, template

WEATHER = Tool(
    "get_weather",
    "Weather of a city",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
ROME = ToolCall("call_rome", "get_weather", '{"city": "Rome"}')
OSLO = ToolCall("call_oslo", "get_weather", '{"city":"Oslo"}')


def said(role: Role, *content: str | Block) -> Message:
    return Message(role, tuple(Text(block) if isinstance(block, str) else block for block in content))


def result(call: ToolCall, text: str, *, is_error: bool = False) -> Message:
    return Message("tool", (ToolResult(call.call_id, (Text(text),), is_error),))


def prompt(name: str, *messages: Message, tools: tuple[Tool, ...] = (), thinking: bool | None = None) -> str:
    return prompt_text(template(name).render(ChatRequest("m", messages, tools=tools), thinking=thinking))


SYSTEM, USER, ANSWER, AGAIN = said("system", "S1"), said("user", "U1"), said("assistant", "A1"), said("user", "U2")
CALLED = (USER, said("assistant", ROME), result(ROME, "sunny"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("smollm2", "<|im_start|>system\nS1<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n"),
        ("gemma2", "<bos><start_of_turn>user\nS1\n\nU1<end_of_turn>\n<start_of_turn>model\n"),
        ("phi3", "<s><|system|>\nS1<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\n"),
        ("mistral_v03", "<s>[INST] S1\n\nU1[/INST]"),
        ("deepseek_r1", "<｜begin▁of▁sentence｜>S1<｜User｜>U1<｜Assistant｜><think>\n"),
        ("bare", "<s>SYSTEM: S1\nUSER: U1\nASSISTANT:"),
        ("parts", "System: S1<end_of_utterance>\nUser: U1<end_of_utterance>\nAssistant:"),
        (
            "llama31",
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 25 Nov 2024\n\nS1<|eot_id|>"
            "<|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
        ),
    ],
)
def test_a_chat_in_its_family_s_words(name: str, expected: str):
    assert prompt(name, SYSTEM, USER) == expected


def test_a_model_without_a_template_gets_chatml():
    model = ChatTemplate(None, Vocabulary())

    text = prompt_text(model.render(ChatRequest("m", (SYSTEM, USER))))

    assert text == "<|im_start|>system\nS1<|im_end|>\n<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize("name", VOCABULARIES)
@pytest.mark.parametrize(
    "messages",
    [
        (USER,),
        (SYSTEM,),
        (ANSWER, USER),
        (SYSTEM, ANSWER, USER),
        (USER, AGAIN),
        (USER, SYSTEM),
        (SYSTEM, said("system", "S2"), USER),
        (SYSTEM, USER, ANSWER, said("system", "S2"), AGAIN),
        (USER, ANSWER, said("assistant", "A2"), AGAIN),
        (SYSTEM, USER, said("assistant", "T1", ROME, OSLO), result(ROME, "R1"), result(OSLO, "R2"), AGAIN),
        (SYSTEM, *CALLED, said("system", "S2"), AGAIN),
        (*CALLED, ANSWER, AGAIN, ANSWER),
        (said("assistant", ROME), result(ROME, "R1")),
    ],
    ids=lambda messages: " ".join(message.role for message in messages),
)
@pytest.mark.parametrize("tools", [(), (WEATHER,)], ids=["", "tools"])
def test_every_template_takes_every_conversation(name: str, messages: tuple[Message, ...], tools: tuple[Tool, ...]):
    """Whatever the roles and their order are, all texts of users, systems and results are there."""
    text = prompt(name, *messages, tools=tools)

    for message in messages:
        if message.role in ("user", "tool"):
            assert all(word in text for word in texts(message))


def texts(message: Message) -> list[str]:
    [first, *rest] = message.content
    blocks = first.content if isinstance(first, ToolResult) else (first, *rest)
    return [block.text for block in blocks if isinstance(block, Text)]


def test_a_system_message_amid_the_conversation_becomes_a_user_turn_where_the_template_refuses_it():
    """Claude Code begins with a user message and a system message; Qwen's templates raise."""
    text = prompt("qwen3", USER, said("system", "Be brief."))

    assert text == (
        "<|im_start|>user\nU1<|im_end|>\n<|im_start|>user\nSystem message:\nBe brief.<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_system_message_amid_the_conversation_stays_one_where_the_template_takes_it():
    assert "<|im_start|>system\nBe brief.<|im_end|>" in prompt("smollm2", USER, said("system", "Be brief."))


def test_messages_of_one_role_are_merged_where_roles_must_alternate():
    text = prompt("gemma2", USER, AGAIN, ANSWER, said("assistant", "A2"), said("user", "U3"))

    assert text == (
        "<bos><start_of_turn>user\nU1\n\nU2<end_of_turn>\n<start_of_turn>model\nA1\n\nA2<end_of_turn>\n"
        "<start_of_turn>user\nU3<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize("name", VOCABULARIES)
def test_an_assistant_message_at_the_end_is_continued(name: str):
    whole = prompt(name, USER, ANSWER, AGAIN)

    text = prompt(name, USER, said("assistant", "A1, and <"))

    assert text.endswith("A1, and <")
    assert text[: text.index("U1")] == whole[: whole.index("U1")]


def test_an_empty_assistant_message_at_the_end_opens_a_turn_of_its_own():
    assert prompt("qwen25", USER, said("assistant", "")) == prompt("qwen25", USER)


def test_an_answer_with_calls_at_the_end_is_not_continued():
    assert prompt("qwen25", USER, said("assistant", ROME)).endswith("<|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("qwen25", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'),
        ("hermes", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'),
        ("llama31", '{"name": "get_weather", "parameters": {"city": "Rome"}}<|eot_id|>'),
        ("mistral_args", '[TOOL_CALLS]get_weather[CALL_ID]call_rome[ARGS]{"city": "Rome"}'),
        ("qwen3_coder", "<tool_call>\n<function=get_weather>\n<parameter=city>\nRome\n</parameter>\n</function>"),
        ("deepseek_r1", 'function<｜tool▁sep｜>get_weather\n```json\n{"city": "Rome"}\n```<｜tool▁call▁end｜>'),
        ("gemma2", '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call><end_of_turn>'),
    ],
)
def test_calls_are_shown_in_the_form_in_which_the_model_writes_them(name: str, written: str):
    text = prompt(name, *CALLED, tools=(WEATHER,))

    assert written in text
    assert "sunny" in text.partition(written)[2]
    assert "Weather of a city" in text


def test_mistral_s_ids_are_made_of_nine_characters_and_go_together():
    text = prompt("mistral_v03", *CALLED, tools=(WEATHER,))

    [made] = [text.partition('"id": "')[2][:9]]
    assert made.isalnum()
    assert f'"call_id": "{made}"' in text
    kept = prompt("mistral_v03", USER, said("assistant", ToolCall("abcdefghi", "f", "{}")))
    assert '"id": "abcdefghi"' in kept


def test_several_calls_become_messages_of_one_call_where_the_template_takes_no_more():
    text = prompt("llama31", USER, said("assistant", ROME, OSLO), result(ROME, "R1"), result(OSLO, "R2"))

    assert text.index('"Rome"') < text.index("R1") < text.index('"Oslo"') < text.index("R2")


def test_a_template_that_shows_no_tools_is_told_of_them_in_words():
    text = prompt("phi3", SYSTEM, *CALLED, tools=(WEATHER,))

    described = '{"name": "get_weather", "description": "Weather of a city", "parameters": {"type": "object", '
    assert f"<|system|>\nS1\n\nYou can call these functions:\n{described}" in text
    assert (
        '<|assistant|>\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call><|end|>'
        in text
    )
    assert text.endswith("<|user|>\n<tool_response>\nsunny\n</tool_response><|end|>\n<|assistant|>\n")


@pytest.mark.parametrize("name", ["qwen25", "phi3"])
def test_tools_that_must_not_be_called_are_not_shown(name: str):
    request = ChatRequest("m", (USER,), tools=(WEATHER,), tool_choice=ToolChoice("none"))

    assert template(name).render(request) == template(name).render(ChatRequest("m", (USER,)))


@pytest.mark.parametrize("name", ["qwen25", "phi3"])
def test_the_model_is_told_in_words_that_a_call_failed(name: str):
    text = prompt(name, USER, said("assistant", ROME), result(ROME, "no such city", is_error=True))

    assert "<tool_response>\nError: no such city\n</tool_response>" in text


def test_a_call_without_arguments_has_an_empty_object():
    assert '"arguments": {}' in prompt("qwen25", USER, said("assistant", ToolCall("c1", "time", "")))


def test_the_thoughts_of_earlier_answers_go_where_the_template_puts_them():
    thought = said("assistant", Reasoning("Hm."), ROME)

    assert "<think>\nHm.\n</think>" in prompt("qwen3", USER, thought, result(ROME, "R1"), tools=(WEATHER,))
    assert "Hm." not in prompt("qwen3", USER, said("assistant", Reasoning("Hm."), "A1"), AGAIN)
    assert "Hm." not in prompt("qwen3", USER, said("assistant", "<think>\nHm.\n</think>\n\nA1"), AGAIN)


def test_thinking_is_switched_off_by_the_template_s_own_switch():
    assert prompt("qwen3", USER, thinking=False).endswith("assistant\n<think>\n\n</think>\n\n")
    assert prompt("qwen3", USER, thinking=True) == prompt("qwen3", USER)


def test_thinking_that_the_template_always_opens_is_closed_to_switch_it_off():
    assert prompt("deepseek_r1", USER, thinking=False).endswith("<｜Assistant｜><think>\n\n</think>\n\n")


@pytest.mark.parametrize("name", ["deepseek_r1", "thinking_generation"])
def test_a_prompt_that_ends_within_thoughts_is_recognised(name: str):
    thinking = template(name).thinking

    assert thinking is not None
    assert thinking.is_open(prompt(name, USER))
    assert not thinking.is_open(prompt(name, USER, thinking=False))
    assert not thinking.is_open(prompt(name, USER, ANSWER))


def test_the_token_of_beginning_stands_there_once():
    with_bos = Vocabulary("<s>", "</s>", adds_bos=True)
    plain, own = "{{ messages[0].content }}", "{{ bos_token + messages[0].content }}"

    assert ChatTemplate(plain, with_bos).render(ChatRequest("m", (USER,))) == (Piece("<s>U1", special=True),)
    assert ChatTemplate(own, with_bos).render(ChatRequest("m", (USER,))) == (Piece("<s>U1", special=True),)


def test_what_a_template_says_when_it_refuses_stays_out():
    source = "{% if messages|length > 1 %}{{ raise_exception('secret') }}{% endif %}{{ messages[0].content }}"
    model = ChatTemplate(source, Vocabulary())

    with pytest.raises(InvalidRequest, match="does not take this conversation") as caught:
        model.render(ChatRequest("m", (USER, ANSWER, AGAIN)))

    assert "secret" not in str(caught.value)
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "source",
    [
        "{% for message in messages %}",
        "{{ raise_exception('never') }}",
        "{{ messages[0].nothing }}",
        "{{ 1 // 0 }}",
        "{{ messages.append(1) }}{{ messages[0].content }}",
        "{{ ''.__class__.__mro__ }}{{ messages[0].content }}",
        "{{ 'a' * 1000000000 }}{{ messages[0].content }}",
        "{{ 10 ** 100000000 }}{{ messages[0].content }}",
        "{% for _ in range(1000000) %}{% endfor %}{{ messages[0].content }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}{{ messages[0].content }}",
    ],
)
def test_a_template_that_breaks_or_breaks_out_is_not_used(source: str):
    with pytest.raises(TemplateUnusable):
        ChatTemplate(source, Vocabulary())


def test_a_template_writes_no_more_than_it_may():
    source = (
        "{{ messages[0].content }}"
        "{% if messages|length > 2 %}{% for _ in range(90000) %}{{ messages[0].content }}{% endfor %}{% endif %}"
    )
    model = ChatTemplate(source, Vocabulary())

    with pytest.raises(InvalidRequest):
        model.render(ChatRequest("m", (USER, ANSWER, AGAIN)))


def test_a_template_knows_the_date_in_utc():
    model = ChatTemplate("{{ strftime_now('%H:%M %d.%m.%Y') }} {{ messages[0].content }}", Vocabulary(), lambda: NOON)

    assert prompt_text(model.render(ChatRequest("m", (USER,)))) == "12:00 25.11.2024 U1"


def test_json_in_templates_is_written_as_hugging_face_writes_it():
    source = "{{ messages[0].content }}{{ {'b': 'é<', 'a': [1, none]} | tojson }}{{ {'b': 1} | tojson(indent=2) }}"
    model = ChatTemplate(source, Vocabulary())

    text = prompt_text(model.render(ChatRequest("m", (USER,))))

    assert text == 'U1{"b": "é<", "a": [1, null]}{\n  "b": 1\n}'


def test_results_in_words_share_a_turn():
    text = prompt("phi3", USER, said("assistant", ROME, OSLO), result(ROME, "R1"), result(OSLO, "R2"))

    assert text.endswith(
        "<|user|>\n<tool_response>\nR1\n</tool_response>\n<tool_response>\nR2\n</tool_response><|end|>\n<|assistant|>\n"
    )


@pytest.mark.parametrize("name", ["llama31", "hermes"])
def test_text_beside_calls_becomes_a_message_of_its_own_where_the_template_loses_it(name: str):
    text = prompt(name, USER, said("assistant", "I look.", ROME), result(ROME, "R1"))

    assert text.index("I look.") < text.index('"Rome"')


def test_the_system_message_goes_to_the_first_turn_where_the_template_loses_it_after_a_result():
    assert prompt("mistral_v03", SYSTEM, *CALLED, tools=(WEATHER,)).count("S1") == 1
