"""The icons of all pages as one sprite, made of the SVG files in `icons/`."""

import re
from importlib.resources import files

_OPENING = re.compile(r"<svg[^>]*>", re.DOTALL)
# A lead line: the marked rope, and the weight at its end.
_LOGO = (
    '<symbol id="logo" viewBox="0 0 24 24"><g fill="none" stroke="currentColor" stroke-width="2"'
    ' stroke-linecap="round"><path d="M12 2v12"/><path d="M7.5 4H12M9 8h3M7.5 12H12"/></g>'
    '<path d="M8.4 15.5h7.2l-1.5 5.3a1 1 0 0 1-1 .7h-2.2a1 1 0 0 1-1-.7z" fill="currentColor"/></symbol>'
)


def sprite() -> tuple[frozenset[str], bytes]:
    """The names of all icons, and an SVG file with a symbol for each. Strokes take the colour of the text around."""
    names, symbols = ["logo"], [_LOGO]
    for file in sorted(files("leadline.console").joinpath("icons").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".svg"):
            name = file.name.removesuffix(".svg")
            names.append(name)
            symbols.append(_symbol(name, file.read_text("utf-8")))
    return frozenset(names), f'<svg xmlns="http://www.w3.org/2000/svg">{"".join(symbols)}</svg>'.encode()


def _symbol(name: str, svg: str) -> str:
    opening = _OPENING.search(svg)
    assert opening is not None, f"icons/{name}.svg is no SVG"
    shapes = " ".join(svg[opening.end() : svg.rindex("</svg>")].split())
    return (
        f'<symbol id="{name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-linecap="round"'
        f' stroke-linejoin="round">{shapes}</symbol>'
    )
