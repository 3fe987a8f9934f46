"""The .proto files that the package carries, to look at and to download."""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

LICENCE = "Apache-2.0"
_HEAD = f"// SPDX-License-Identifier: {LICENCE}\n".encode()


@dataclass(frozen=True, slots=True)
class Proto:
    """`name` is the path that other files import it by."""

    name: str
    content: bytes

    @property
    def text(self) -> str:
        return self.content.decode("utf-8")

    @property
    def services(self) -> tuple[str, ...]:
        lines = self.text.splitlines()
        return tuple(line.split()[1] for line in lines if line.startswith("service "))


@cache
def protos() -> dict[str, Proto]:
    """All of them by name; nothing else can be asked for, so no name reaches the disk."""
    folder = files("leadline") / "dialects" / "xai" / "protos"
    found = sorted(_below(folder, ""))
    return {name: Proto(name, _HEAD + file.read_bytes()) for name, file in found}


def _below(folder: Traversable, prefix: str) -> list[tuple[str, Traversable]]:
    found: list[tuple[str, Traversable]] = []
    for one in folder.iterdir():
        if one.is_dir():
            found += _below(one, f"{prefix}{one.name}/")
        elif one.name.endswith(".proto"):
            found.append((f"{prefix}{one.name}", one))
    return found
