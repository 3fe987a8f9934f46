"""The fields that several requests share: checked, and in our own words. InvalidRequest names the field."""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from leadline.chat.request import Sampling
from leadline.dialects.bounds import LONGEST_MODEL, LONGEST_STOP, MOST_CHOICES, MOST_STOPS
from leadline.errors import InvalidRequest

# 32-bit floats are written with so many digits, the fewest first, until they are the same number again.
_DIGITS = range(6, 10)
_Word = TypeVar("_Word")


def model_of(message: Any) -> str:
    model = str(message.model)
    if not 0 < len(model) <= LONGEST_MODEL:
        raise InvalidRequest(f"model is {'missing' if not model else 'too long'}. Name a model.", "model")
    return model


def optional(message: Any, field: str) -> Any:
    """The value of a field, or None where it was not set."""
    return getattr(message, field) if message.HasField(field) else None


def word_of(number: int, words: Mapping[int, _Word], field: str) -> _Word:
    """What a value of an enumeration means. On the wire it may be any number."""
    if number not in words:
        raise InvalidRequest(f"{field} has no value {number}. Leave it out, or send one of its values.", field)
    return words[number]


def whole_number(message: Any, field: str, least: int, most: int) -> int | None:
    value = optional(message, field)
    if value is not None and not least <= value <= most:
        raise InvalidRequest(f"{field} must be from {least} to {most}, not {value}.", field)
    return value if value is None else int(value)


def number(message: Any, field: str, least: float, most: float) -> float | None:
    """The decimal that the client wrote: on the wire it has 32 bits, over HTTP it has more."""
    value = optional(message, field)
    if value is None:
        return None
    if not (math.isfinite(value) and least <= value <= most):
        raise InvalidRequest(f"{field} must be from {least:g} to {most:g}.", field)
    shortest = (float(f"{value:.{digits}g}") for digits in _DIGITS)
    return next(decimal for decimal in shortest if struct.pack("f", decimal) == struct.pack("f", value))


def choices_of(message: Any) -> int:
    return whole_number(message, "n", 1, MOST_CHOICES) or 1


def stops_of(stop: Sequence[str]) -> tuple[str, ...]:
    if len(stop) > MOST_STOPS:
        raise InvalidRequest(f"stop has {len(stop)} strings, more than {MOST_STOPS}.", "stop")
    for index, text in enumerate(stop):
        if not 0 < len(text) <= LONGEST_STOP:
            raise InvalidRequest(f"stop[{index}] must have 1 to {LONGEST_STOP} characters.", f"stop[{index}]")
    return tuple(stop)


def sampling_of(message: Any) -> Sampling:
    temperature, top_p = number(message, "temperature", 0, 2), number(message, "top_p", 0, 1)
    return Sampling(
        temperature=1.0 if temperature is None else temperature,
        top_p=1.0 if top_p is None else top_p,
        seed=optional(message, "seed"),
        presence_penalty=number(message, "presence_penalty", -2, 2) or 0.0,
        frequency_penalty=number(message, "frequency_penalty", -2, 2) or 0.0,
    )


def top_logprobs_of(message: Any, most: int) -> int | None:
    """How many alternatives per token; None where no log probabilities are asked for."""
    top = whole_number(message, "top_logprobs", 0, most)
    if top is not None and not message.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", "top_logprobs")
    return (top or 0) if message.logprobs else None
