"""What the money path and the engines call a field is not what every endpoint calls it."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from leadline.errors import InvalidRequest


class naming:
    """What is refused inside names the field as its endpoint does, in its message too: `fields` by their inner names,
    in which `[]` stands for any index. What lies inside of a field goes with it."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = fields

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InvalidRequest):
            error.param = _renamed(error.param or "", self._fields) or None
            error.args = (_renamed(str(error), self._fields),)


@contextmanager
def within(at: str) -> Iterator[None]:
    """What is refused inside names a field that lies in the field `at`."""
    try:
        yield
    except InvalidRequest as error:
        inner, text = error.param, str(error)
        error.param = f"{at}.{inner}" if inner else at
        error.args = (f"{at}.{text}" if inner and text.startswith(inner) else f"{at}: {text}",)
        raise


def _renamed(text: str, fields: Mapping[str, str]) -> str:
    """`text` with another field at its beginning, if one of these stands there."""
    for inner, outer in fields.items():
        begins = re.escape(inner).replace(r"\[\]", r"(\[\d+\])")
        if found := re.match(rf"{begins}(?=[:.]|$)", text):
            return outer.replace("[]", found[1] if found.lastindex else "") + text[found.end() :]
    return text
