"""Texts or tokens, one or several, as completions and embeddings take them."""

from typing import Annotated, Any

from msgspec import Meta

from leadline.dialects.bounds import MOST_PROMPTS
from leadline.errors import InvalidRequest

_TokenId = Annotated[int, Meta(ge=0, lt=2**31)]
WirePrompts = str | list[str | _TokenId | list[_TokenId]]


def prompts_of(given: str | list[Any], field: str) -> tuple[str | tuple[int, ...], ...]:
    """Texts, or tokens of the model's own vocabulary: one alone, or a list of one kind. InvalidRequest names it."""
    entries = [given] if isinstance(given, str) else given
    kinds = {type(entry) for entry in entries}
    if len(kinds) > 1:
        raise InvalidRequest(f"{field} mixes kinds. Send a string, strings, tokens, or lists of tokens.", field)
    if kinds == {int}:
        entries = [entries]
    if not entries:
        raise InvalidRequest(f"{field} is empty. Send at least one text.", field)
    if len(entries) > MOST_PROMPTS:
        raise InvalidRequest(
            f"{field} has {len(entries)} entries, more than {MOST_PROMPTS}. Send fewer at once.", field
        )
    for number, entry in enumerate(entries):
        if not entry:
            at = field if isinstance(given, str) else f"{field}[{number}]"
            raise InvalidRequest(f"{at} is empty. Send at least one word.", at)
    return tuple(entry if isinstance(entry, str) else tuple(entry) for entry in entries)
