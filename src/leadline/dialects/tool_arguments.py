"""The arguments of a tool call that a client sends back."""

from typing import Any

import msgspec

from leadline.errors import InvalidRequest


def arguments_of(text: str, param: str) -> str:
    """The JSON text of an object; some clients send nothing for an empty one. InvalidRequest names `param`."""
    arguments = text.strip() or "{}"
    try:
        msgspec.json.decode(arguments, type=dict[str, Any])
    except msgspec.DecodeError:
        raise InvalidRequest(f"{param} must be the JSON text of an object.", param) from None
    return arguments
