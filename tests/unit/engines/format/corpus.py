"""Chat templates of many families, written for these tests in the forms that the families publish."""

# ruff: noqa: RUF001 (DeepSeek writes its tokens with a fullwidth bar)

from functools import cache
from pathlib import Path

from leadline.engines.format.template import ChatTemplate, Vocabulary

FOLDER = Path(__file__).parent / "templates"
_CHATML = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
_CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_MISTRAL = (
    *("<s>", "</s>", "<unk>", "[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[ARGS]", "[CALL_ID]"),
)
_LLAMA3 = (
    *("<|begin_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|start_header_id|>", "<|end_header_id|>", "<|python_tag|>"),
    *(f"<|reserved_special_token_{number}|>" for number in range(4)),
)
_DEEPSEEK = tuple(
    f"<｜{word}｜>"
    for word in (
        *("begin▁of▁sentence", "end▁of▁sentence", "User", "Assistant", "tool▁calls▁begin", "tool▁calls▁end"),
        *("tool▁call▁begin", "tool▁call▁end", "tool▁sep", "tool▁outputs▁begin", "tool▁outputs▁end"),
        *("tool▁output▁begin", "tool▁output▁end"),
    )
)
VOCABULARIES = {
    "smollm2": Vocabulary("<|im_start|>", "<|im_end|>", special=_CHATML),
    "qwen25": Vocabulary(None, "<|im_end|>", special=_CHATML + _CALLS[:2]),
    "qwen3": Vocabulary(None, "<|im_end|>", special=(*_CHATML, *_CALLS, "<think>", "</think>")),
    "qwen3_coder": Vocabulary(None, "<|im_end|>", special=(*_CHATML, *_CALLS)),
    "llama31": Vocabulary("<|begin_of_text|>", "<|eot_id|>", adds_bos=True, special=_LLAMA3),
    "mistral_v03": Vocabulary("<s>", "</s>", adds_bos=True, special=_MISTRAL),
    "mistral_args": Vocabulary("<s>", "</s>", adds_bos=True, special=_MISTRAL),
    "gemma2": Vocabulary(
        *("<bos>", "<eos>"), adds_bos=True, special=("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>", "<h1>")
    ),
    "deepseek_r1": Vocabulary(_DEEPSEEK[0], _DEEPSEEK[1], adds_bos=True, special=(*_DEEPSEEK, "<think>", "</think>")),
    "phi3": Vocabulary(
        *("<s>", "<|endoftext|>"),
        adds_bos=True,
        special=("<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>"),
    ),
    "hermes": Vocabulary("<|begin_of_text|>", "<|im_end|>", special=(*_CHATML, *_CALLS, "<|begin_of_text|>")),
    "bare": Vocabulary("<s>", "</s>", adds_bos=True, special=("<s>", "</s>", "<unk>")),
    "parts": Vocabulary(
        "<|im_start|>", "<end_of_utterance>", special=("<|im_start|>", "<end_of_utterance>", "<image>")
    ),
    "python_repr": Vocabulary(None, "<|im_end|>", special=_CHATML),
    "rewriting": Vocabulary(None, "<|im_end|>", special=_CHATML),
    "escaping": Vocabulary(None, "<|im_end|>", special=_CHATML),
    "key_tags": Vocabulary(
        *(None, "<|user|>"), special=("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", *_CALLS[:2])
    ),
    "thinking_generation": Vocabulary(None, "<|im_end|>", special=(*_CHATML, "<think>", "</think>")),
}
NOON = 1_732_536_000_000_000


@cache
def template(name: str) -> ChatTemplate:
    """On 25 November 2024."""
    return ChatTemplate((FOLDER / f"{name}.jinja").read_text("utf-8"), VOCABULARIES[name], lambda: NOON)
