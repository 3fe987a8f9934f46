"""Texts of others on a terminal: what would command it is shown, and does nothing."""

_KEPT = "\n\t"


def harmless(text: str, kept: str = _KEPT) -> str:
    """The text with each control character as a question mark in a diamond, but those that are `kept`; also the marks
    that turn the direction of writing."""
    return "".join(one if one in kept or not _commands(one) else "\N{REPLACEMENT CHARACTER}" for one in text)


def _commands(one: str) -> bool:
    return one < " " or "\x7f" <= one <= "\x9f" or "\u202a" <= one <= "\u202e" or "\u2066" <= one <= "\u2069"
