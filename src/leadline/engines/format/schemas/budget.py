"""What one grammar may cost: our time to make it, the engine's to read it. More is refused."""

MOST_STEPS = 80_000
MOST_RULES = 5_000
MOST_BYTES = 256 * 1024
# llama.cpp writes out what is repeated: `x{0,500}` becomes 500 rules of its own.
MOST_REPEATS = 20_000


class Refusal(Exception):
    """A schema that we do not take, and why. Whoever catches it knows the place."""


class Budget:
    """What is left for one grammar."""

    def __init__(self) -> None:
        self._steps = MOST_STEPS
        self._repeats = MOST_REPEATS

    def spend(self, steps: int = 1) -> None:
        """A step is about half a microsecond."""
        self._steps -= steps
        if self._steps < 0:
            raise Refusal("the schema is too large or too intricate")

    @property
    def spent(self) -> int:
        return MOST_STEPS - self._steps

    def repeat(self, times: int) -> None:
        self._repeats -= times
        if self._repeats < 0:
            raise Refusal(
                f"the schema's repeats (such as maxLength and maxItems) are more than {MOST_REPEATS:,} in all"
            )
