"""Markdown of ours to HTML: anchors, tables, code in several languages. Nothing in it is a script or a style."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from leadline.console.docs.highlight import highlight
from leadline.console.docs.reader import marked, unmarked
from leadline.console.render import render

_NAMES = {
    **{"bash": "Shell", "sh": "Shell", "console": "Shell", "python": "Python", "javascript": "JavaScript"},
    **{"json": "JSON", "toml": "TOML", "proto": "Protocol buffers", "text": "Text"},
}


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with what stands below it, and the code apart. The text before the first one has no anchor."""

    level: int
    anchor: str
    title: str
    text: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """A page with marks in place of what differs from reader to reader."""

    title: str
    html: str
    sections: tuple[Section, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """One block. `tab` names it among several; `illustrative` says why nobody can run it as it stands."""

    language: str
    text: str
    tab: str = ""
    illustrative: str = ""


@dataclass
class _Page:
    """What is gathered while a page is made."""

    paths: Mapping[str, str]
    sections: list[Section] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    groups: int = 0


def write(text: str, paths: Mapping[str, str]) -> Written:
    """`paths` is where the site has each Markdown file that links may name; links to others are plain text."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = parser.parse(marked(text))
    page = _Page(paths)
    title = tokens[1].content
    body = _grouped(tokens[3:])
    _note_sections(body, page)
    for token in body:
        if token.type == "inline" and token.children:
            _lead_links(token.children, page.paths)
    html = "".join(_rendered(parser, token, page) for token in body)
    return Written(_plain(title), html, tuple(page.sections))


def prose(text: str) -> Markup:
    """A line of plain text in which only `code` is marked."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", escape(text)))  # noqa: S704 — it is escaped


def _grouped(tokens: Sequence[Token]) -> list[Token]:
    """Blocks with tabs that follow one another become one token, of which `meta` has them all."""
    out: list[Token] = []
    for token in tokens:
        if token.type == "fence":
            code = _code(token)
            if code.tab and out and out[-1].type == "codes" and out[-1].meta["codes"][-1].tab:
                out[-1].meta["codes"].append(code)
                continue
            out.append(Token("codes", "", 0, meta={"codes": [code]}))
        else:
            out.append(token)
    return out


def _code(token: Token) -> Code:
    """The info string is the language, then the name of the tab, then perhaps `(illustrative: why)`."""
    language, _, rest = token.info.strip().partition(" ")
    tab, _, why = rest.partition("(illustrative:")
    return Code(language, token.content, tab.strip(), why.removesuffix(")").strip())


def _note_sections(tokens: Sequence[Token], page: _Page) -> None:
    """Give each heading its anchor, and each section its text."""
    level, anchor, title = 1, "", ""
    texts: list[str] = []
    codes: list[str] = []
    for at, token in enumerate(tokens):
        if token.type == "heading_open":
            page.sections.append(Section(level, anchor, title, _searched(texts), _searched(codes)))
            texts, codes = [], []
            level, title = int(token.tag[1]), _plain(tokens[at + 1].content)
            anchor = _anchor(title, page.anchors)
            token.attrSet("id", anchor)
            tokens[at + 1].hidden = True
        elif token.type == "codes":
            codes += [code.text for code in token.meta["codes"]]
        elif token.type == "inline" and not token.hidden:
            texts.append(token.content)
    page.sections.append(Section(level, anchor, title, _searched(texts), _searched(codes)))


def _searched(texts: Sequence[str]) -> str:
    return " ".join(unmarked(_plain("\n".join(texts))).split())


def _anchor(title: str, known: set[str]) -> str:
    slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") or "section"
    anchor, number = slug, 1
    while anchor in known:
        anchor, number = f"{slug}-{number}", number + 1
    known.add(anchor)
    return anchor


def _plain(text: str) -> str:
    """Without the marks of Markdown."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("**", "")


def _lead_links(children: list[Token], paths: Mapping[str, str]) -> None:
    """Links between Markdown files become links of the site; what leads out of it is text. KeyError: there is no such
    file beside this one."""
    dropped = False
    for token in children:
        if token.type == "link_open":
            file, hash_, anchor = str(token.attrGet("href") or "").partition("#")
            own = not file or file.startswith("/")
            dropped = not own and "/" in file
            if not dropped:
                token.attrSet("href", f"{file if own else paths[file]}{hash_}{anchor}")
        if dropped and token.type in ("link_open", "link_close"):
            token.type, token.tag, token.content = "text", "", ""
            token.attrs = {}


def _rendered(parser: MarkdownIt, token: Token, page: _Page) -> str:
    match token.type:
        case "codes":
            page.groups += 1
            return code_html(token.meta["codes"], f"code-{page.groups}")
        case "table_open":
            return '<div class="docs-table" role="region" aria-label="Table" tabindex="0"><table>'
        case "table_close":
            return "</table></div>"
        case "th_open" | "td_open":
            # Alignment comes as a style, which the pages forbid.
            aligned = "right" in str(token.attrs.pop("style", ""))
            if aligned:
                token.attrSet("class", "number")
        case "heading_close":
            return f"</{token.tag}>"
    return str(parser.renderer.render([token], parser.options, {}))


def code_html(codes: Sequence[Code], name: str) -> str:
    """Blocks of code, one shown at a time where there are several; `name` is an id. What nobody can run as it stands
    says so, and why."""
    programs = [(_label(code), Markup(highlight(code.text.rstrip("\n"), code.language))) for code in codes]  # noqa: S704
    return render("docs_code.html", id=name, programs=programs)


def _label(code: Code) -> str:
    label = code.tab or _NAMES.get(code.language, code.language or "Text")
    return f"{label}: {code.illustrative}" if code.illustrative else label
