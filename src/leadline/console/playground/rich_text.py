"""What a model wrote, as a tree of the few elements that the playground's script makes.

Model output is untrusted: on no side is it HTML. A node is a text, or a list of a tag, its attributes, and nodes."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

Node = str | list[Any]

# Longer answers, and those with more brackets, stay plain text: what it takes to read them grows with the square.
LONGEST = 24 * 1024
_MOST_BRACKETS = 1_000
_PARSER = MarkdownIt("commonmark", {"html": False, "maxNesting": 30}).enable(["table", "strikethrough"])
# The page has its own two upper headings.
_TAGS = {"h1": "h3", "h2": "h4", "h3": "h5", "h4": "h6", "h5": "h6"}
_SCHEMES = ("http", "https", "mailto")


def rich_text(text: str) -> list[Node]:
    """The tree of a text in Markdown. Pictures are links, since nothing is loaded that a model names."""
    if len(text) > LONGEST or text.count("[") > _MOST_BRACKETS:
        return [["p", {}, text]]
    return _tree(_PARSER.parse(text))


def code_block(text: str, language: str = "") -> Node:
    """A block of code as it stands."""
    return ["pre", {"language": language}, text]


def _tree(tokens: Sequence[Token]) -> list[Node]:
    roots: list[Node] = []
    stack: list[list[Any]] = [roots]
    for token in tokens:
        if token.nesting < 0:
            if not token.hidden:
                stack.pop()
            continue
        if token.hidden:
            continue
        if token.nesting > 0:
            opened: list[Any] = [_TAGS.get(token.tag, token.tag), _attributes(token)]
            stack[-1].append(opened)
            stack.append(opened)
            continue
        stack[-1].extend(_leaf(token))
    return roots


def _leaf(token: Token) -> list[Node]:
    match token.type:
        case "inline":
            return _tree(token.children or ())
        case "text":
            return [token.content] if token.content else []
        case "softbreak":
            return ["\n"]
        case "hardbreak":
            return [["br", {}]]
        case "hr":
            return [["hr", {}]]
        case "code_inline":
            return [["code", {}, token.content]]
        case "fence" | "code_block":
            return [code_block(token.content.removesuffix("\n"), token.info.strip().partition(" ")[0][:30])]
        case "image":
            return [_picture(token)]
        case _:
            return [token.content]


def _picture(token: Token) -> Node:
    url = str(token.attrGet("src") or "")
    return ["a", {"href": url} if _is_safe(url) else {}, f"picture: {token.content or url}"]


def _attributes(token: Token) -> dict[str, Any]:
    match token.tag:
        case "a":
            url = str(token.attrGet("href") or "")
            return {"href": url} if _is_safe(url) else {}
        case "ol":
            start = token.attrGet("start")
            return {"start": start} if isinstance(start, int) else {}
        case "th" | "td":
            return {"right": True} if "right" in str(token.attrs.get("style", "")) else {}
        case _:
            return {}


def _is_safe(url: str) -> bool:
    """Whole addresses alone: a link into this console would be one that its owner did not write."""
    try:
        return urlsplit(url).scheme.lower() in _SCHEMES
    except ValueError:
        return False
