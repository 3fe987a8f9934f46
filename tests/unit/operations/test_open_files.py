"""How many files the server may have open: each stream takes two."""

import resource
from collections.abc import Iterator

import pytest

from leadline.operations.serve import raise_file_limit


@pytest.fixture
def most() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 512), hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_server_takes_as_many_open_files_as_it_may(most: int) -> None:
    raise_file_limit()

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
