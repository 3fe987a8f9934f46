"""What a command is: arguments and results are plain JSON values. One that changes something takes its actor before
them."""

from collections.abc import Awaitable, Callable
from typing import Any

from leadline.errors import InvalidRequest
from leadline.money import Ticks, usd

Result = dict[str, Any]
Command = Callable[..., Awaitable[Result]]


def dollars(text: str) -> Ticks:
    """Dollars as somebody wrote them, or InvalidRequest."""
    try:
        return usd(text)
    except ValueError as error:
        raise InvalidRequest(f"{error}. Write it as 20 or 0.50.", "amount") from None
