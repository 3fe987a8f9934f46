"""The seed documents' blocks: what they show a user to run, and what they show him to come back.

The reference has fences. The quickstart has none: its blocks are cut by the table below, which holds for exactly the
file whose hash stands beside it.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
HASHES = {
    "xai-quickstart.md": "3763829c70205b83e603d15429c63ec0926737341a2ee758068c52bdeaea304a",
    "xai-reference.md": "9466d5bef82ba50f59137061215c324e30a46e6b618806840d13ecef0f2231ec",
}
# First line, last line, language. The language stands as a line of its own above the block.
QUICKSTART_ROWS = (
    (16, 16, "bash"),
    (28, 45, "bash"),
    (53, 79, "javascript"),
    (89, 121, "javascript"),
    (136, 146, "json"),
)
# From the line with the language to the block's first line.
QUICKSTART_GAP = 3
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    text: str


def _quickstart() -> dict[str, Block]:
    lines = text_of("xai-quickstart.md").splitlines()
    return {
        f"quickstart:{first}": Block(language, "\n".join(lines[first - 1 : last]))
        for first, last, language in QUICKSTART_ROWS
    }


def _reference() -> dict[str, Block]:
    text = text_of("xai-reference.md")
    return {
        f"reference:{text.count(chr(10), 0, fence.start(2)) + 1}": Block(fence[1], fence[2].rstrip("\n"))
        for fence in _FENCE.finditer(text)
    }


def text_of(document: str) -> str:
    return (FOLDER / document).read_text("utf-8")


def hash_of(document: str) -> str:
    return hashlib.sha256((FOLDER / document).read_bytes()).hexdigest()


# By document and first line.
BLOCKS = _quickstart() | _reference()
