"""A disk that fails when it is told to, under a real SQLite."""

from collections.abc import Iterator
from typing import Any

import apsw
import pytest


class Disk(apsw.VFS):
    """While `fails` names an operation ("xWrite", "xSync" or "xRead"), each one raises `error`. `opened` counts how
    often the database's own file was opened."""

    def __init__(self) -> None:
        self.fails = ""
        self.opened = 0
        self.error: apsw.Error = apsw.IOError("disk I/O error")
        super().__init__("failing disk", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> "_File":
        self.opened += bool(flags[0] & apsw.SQLITE_OPEN_MAIN_DB)
        return _File(self, name, flags)

    def may_fail(self, operation: str) -> None:
        if operation == self.fails:
            raise self.error


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        super().__init__("unix", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.may_fail("xRead")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.may_fail("xWrite")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:
        self._disk.may_fail("xSync")
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[Disk]:
    failing = Disk()
    yield failing
    failing.fails = ""
    failing.unregister()
    apsw.set_default_vfs("unix")
