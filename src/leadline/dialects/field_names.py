"""What the money path and the engines call a field is not what every endpoint calls it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from leadline.errors import InvalidRequest


@contextmanager
def naming(fields: Mapping[str, str]) -> Iterator[None]:
    """What is refused inside names the field as its endpoint does: `fields` by their inner names."""
    try:
        yield
    except InvalidRequest as error:
        error.param = fields.get(error.param or "", error.param)
        raise
