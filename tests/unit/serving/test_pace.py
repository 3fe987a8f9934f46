"""How many tokens each model makes."""

from leadline.serving.pace import LOOKS, Pace


class Seconds:
    """A clock that goes a second further at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_nothing_was_made_before_anybody_looked() -> None:
    pace = Pace(Seconds())

    assert (pace.per_second("echo"), pace.by_second("echo")) == (0.0, (0,) * LOOKS)


def test_what_running_requests_make_is_counted_between_looks() -> None:
    pace = Pace(Seconds())
    for made in (0, 5, 15):
        pace.tick([("echo", made), ("echo", made)])

    assert pace.by_second("echo")[-2:] == (10, 20)
    assert pace.per_second("echo") == 15.0


def test_a_request_that_ends_between_looks_is_counted_once() -> None:
    pace = Pace(Seconds())
    pace.tick([("echo", 4)])
    pace.ended("echo", 10)
    pace.tick([])
    pace.tick([])

    assert pace.by_second("echo")[-3:] == (4, 6, 0)


def test_a_count_that_the_engine_corrects_downwards_takes_nothing_away() -> None:
    pace = Pace(Seconds())
    pace.tick([("echo", 10)])
    pace.ended("echo", 8)
    pace.tick([])

    assert min(pace.by_second("echo")) == 0


def test_what_was_made_long_ago_does_not_count() -> None:
    pace = Pace(Seconds())
    pace.tick([])
    pace.ended("echo", 1000)
    for _ in range(LOOKS + 1):
        pace.tick([])

    assert pace.per_second("echo") == 0.0


def test_models_are_counted_apart() -> None:
    pace = Pace(Seconds())
    pace.tick([])
    pace.tick([("echo", 3), ("other", 7)])

    assert (pace.per_second("echo"), pace.per_second("other")) == (3.0, 7.0)
