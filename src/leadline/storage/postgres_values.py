"""How values go to PostgreSQL and come back: as SQLite takes and gives them."""

from typing import Any

import psycopg
from psycopg.adapt import AdaptersMap, Dumper, Loader
from psycopg.types.numeric import Int8Dumper
from psycopg.types.string import StrDumper


class _Text(StrDumper):
    """PostgreSQL takes no NUL in a text: the sign for what cannot be shown stands for it."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\x00", "\ufffd") if "\x00" in obj else obj)


class _Truth(Dumper):
    """As 0 and 1, which is what the columns hold."""

    oid = Int8Dumper.oid

    def dump(self, obj: bool) -> bytes:  # noqa: FBT001 psycopg's own signature
        return b"1" if obj else b"0"


class _WholeNumber(Loader):
    """A sum of BIGINT is NUMERIC; ours are whole."""

    def load(self, data: Any) -> int:
        return int(bytes(data))


_adapters = AdaptersMap(psycopg.adapters)
_adapters.register_dumper(str, _Text)
_adapters.register_dumper(int, Int8Dumper)
_adapters.register_dumper(bool, _Truth)
_adapters.register_loader("numeric", _WholeNumber)


class _Context:
    """What psycopg asks for how to put values."""

    adapters, connection = _adapters, None


CONTEXT = _Context()
