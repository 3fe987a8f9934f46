"""Every known bug of other servers has a test here, under its number."""

import re
from pathlib import Path

ROWS = 63


def test_every_row_has_a_test():
    files = Path(__file__).parent.glob("test_*.py")
    rows = {int(row) for file in files for row in re.findall(r"^def test_(\d\d)_", file.read_text(), re.MULTILINE)}
    assert rows == set(range(1, ROWS + 1))
