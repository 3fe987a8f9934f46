"""Colours of programs and commands: four classes, whose colours are in the style sheets."""

from functools import cache
from html import escape

# Of a token's ancestry the first that is listed.
_CLASSES = {
    ("Comment",): "c",
    ("Literal", "String"): "s",
    ("Literal", "Number"): "n",
    ("Keyword",): "k",
    ("Name", "Tag"): "k",
    ("Name", "Builtin"): "k",
}
# Sessions without prompts are commands.
_LEXERS = {"console": "bash", "sh": "bash", "": "text"}


def highlight(code: str, language: str) -> str:
    """The code as HTML. A language that nobody knows is plain text."""
    # It is imported late since a server starts without it.
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(_LEXERS.get(language, language), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return escape(code)
    pieces: list[str] = []
    for kind, text in lexer.get_tokens(code):
        name = _class_of(tuple(kind))
        pieces.append(f'<span class="{name}">{escape(text)}</span>' if name else escape(text))
    return "".join(pieces)


@cache
def _class_of(kind: tuple[str, ...]) -> str:
    return next((_CLASSES[kind[:length]] for length in (1, 2) if kind[:length] in _CLASSES), "")
