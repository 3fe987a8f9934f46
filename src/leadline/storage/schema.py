"""The schema: numbered files of plain SQL, each applied once, in order. Both databases take the same ones."""

from collections.abc import Set as AbstractSet
from importlib import resources
from importlib.resources.abc import Traversable

from leadline.storage.database import DatabaseUnusable


def known_migrations() -> dict[int, Traversable]:
    """The files by their numbers, in order."""
    files = resources.files("leadline.storage").joinpath("migrations").iterdir()
    return {
        int(file.name[:4]): file for file in sorted(files, key=lambda file: file.name) if file.name.endswith(".sql")
    }


def newest_schema() -> int:
    """The schema that this Leadline brings a database to."""
    return max(known_migrations())


def missing_migrations(applied: AbstractSet[int]) -> list[int]:
    """What is still to be applied, in order. DatabaseUnusable where a newer Leadline was here."""
    known = known_migrations()
    if applied - known.keys():
        raise DatabaseUnusable(
            f"The database has schema {max(applied)}, this Leadline knows {max(known)}. Install the newer Leadline."
        )
    return sorted(known.keys() - applied)
