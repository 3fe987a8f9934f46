"""How the families of models write tool calls and thoughts, told by their chat templates."""

# ruff: noqa: RUF001 (DeepSeek writes its tokens with a fullwidth bar)

import hashlib
import re
import secrets
import string
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from leadline.engines.format.grammar import CallSyntax

_ID_CHARACTERS = string.ascii_letters + string.digits
_SHORT_ID_LENGTH = 9


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a family writes calls. `syntax` is what a grammar forces: the family's own, or Hermes' where its own is no
    JSON object. `many`: it may write several calls at once. `markers` may be control tokens of the vocabulary: an
    engine must give them out as text. `short_ids`: its template takes only ids of nine characters.

    All families also read Hermes' form, and a bare JSON call at the beginning of an answer (`output.py`).
    """

    name: Literal["hermes", "llama3", "mistral", "qwen-coder", "deepseek", "plain"]
    syntax: CallSyntax
    markers: tuple[str, ...]
    many: bool = True
    short_ids: bool = False


_TAGS = CallSyntax("<tool_call>\n", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>")
HERMES = CallForm("hermes", _TAGS, ("<tool_call>", "</tool_call>"))
# For templates that show no tools, or in a way that we cannot read back: we tell of them (`conversation.py`).
PLAIN = CallForm("plain", _TAGS, HERMES.markers)
LLAMA3 = CallForm("llama3", CallSyntax(separator="; ", arguments_key="parameters"), ("<|python_tag|>",), many=False)
MISTRAL = CallForm("mistral", CallSyntax("[TOOL_CALLS] [", ", ", "]"), ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"))
QWEN_CODER = CallForm("qwen-coder", _TAGS, HERMES.markers)
DEEPSEEK = CallForm(
    name="deepseek",
    syntax=_TAGS,
    markers=(
        *("<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>"),
        *("<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>"),
    ),
)


def call_form(template: str) -> CallForm:
    """The form that a template's own text shows; PLAIN where it shows none that we know."""
    if "<｜tool▁calls▁begin｜>" in template:
        return DEEPSEEK
    if "[TOOL_CALLS]" in template:
        return MISTRAL
    if "<function=" in template and "<parameter=" in template:
        return QWEN_CODER
    if "<tool_call>" in template:
        return HERMES
    if "<|python_tag|>" in template or ("<|start_header_id|>" in template and '"parameters"' in template):
        return LLAMA3
    return PLAIN


@dataclass(frozen=True, slots=True)
class Thinking:
    """Thoughts stand between `opening` and `closing`. `switch` is the template's variable that turns thinking on and
    off; None: it has none."""

    opening: str
    closing: str
    switch: str | None = None

    @property
    def markers(self) -> tuple[str, ...]:
        """As `CallForm.markers`."""
        return self.opening, self.closing

    def is_open(self, prompt: str) -> bool:
        """Whether the prompt ends within thoughts, so that the answer begins with them."""
        return prompt.rstrip().endswith(self.opening)

    def parted(self, text: str) -> tuple[str, str]:
        """An earlier answer that begins with thoughts, as (thoughts, answer)."""
        begun = text.lstrip()
        if not begun.startswith(self.opening) or self.closing not in begun:
            return "", text
        thoughts, _, answer = begun.removeprefix(self.opening).partition(self.closing)
        return thoughts.strip(), answer.lstrip()


def thinking_style(template: str, variables: Iterable[str]) -> Thinking | None:
    """How a template with these free variables thinks, if it does."""
    switch = next((name for name in ("enable_thinking", "thinking") if name in variables), None)
    for opening, closing in (("<think>", "</think>"), ("[THINK]", "[/THINK]")):
        if closing in template:
            return Thinking(opening, closing, switch)
    return None


def new_call_id(*, short: bool) -> str:
    """`short`: Mistral's templates take nine letters and digits, and nothing else."""
    if short:
        return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_SHORT_ID_LENGTH))
    return f"call_{secrets.token_hex(12)}"


def known_call_id(call_id: str, *, short: bool) -> str:
    """An id from an earlier turn as a template takes it: itself where it is harmless, else always the same other."""
    if re.fullmatch(r"[A-Za-z0-9]{9}" if short else r"[A-Za-z0-9_-]{1,64}", call_id):
        return call_id
    digest = hashlib.blake2b(call_id.encode("utf-8", "surrogatepass"), digest_size=32).digest()
    letters = "".join(_ID_CHARACTERS[byte % len(_ID_CHARACTERS)] for byte in digest)
    return letters[:_SHORT_ID_LENGTH] if short else f"call_{letters[:24]}"
