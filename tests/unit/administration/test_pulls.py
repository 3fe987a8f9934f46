"""Pulls that run beside the server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from leadline.administration.pulls import KEPT, MOST_AT_ONCE, Pulls
from leadline.errors import InvalidRequest, LeadlineError, NotFound, Unavailable
from leadline.weights.known import DEFAULT
from leadline.weights.pull import Progress


class Source:
    """Where weights come from: a pull tells how far it is, and waits until it is let through."""

    def __init__(self) -> None:
        self.released, self.cancelled = asyncio.Event(), 0
        self.error: Exception | None = None

    async def __call__(self, _data: Path, wanted: str, watch: Any) -> dict[str, Any]:
        watch(wanted, Progress("downloading", 25, 100))
        try:
            await self.released.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return {}


@pytest.fixture
def source() -> Source:
    return Source()


@pytest_asyncio.fixture
async def pulls(tmp_path: Path, source: Source) -> AsyncIterator[Pulls]:
    pulls = Pulls(tmp_path, source)
    yield pulls
    await pulls.close()


async def ended(pulls: Pulls) -> None:
    while any(pull.state == "running" for pull in pulls.all()):
        await asyncio.sleep(0)


async def test_a_pull_tells_how_far_it_is_and_then_that_it_is_done(pulls: Pulls, source: Source) -> None:
    pull = pulls.begin(DEFAULT.name)
    await asyncio.sleep(0)
    percent = pull.percent
    source.released.set()
    await ended(pulls)

    assert (percent, pull.state, pull.error) == (25, "done", "")
    assert pull.ended_at is not None


async def test_a_pull_that_fails_says_why(pulls: Pulls, source: Source) -> None:
    source.error = LeadlineError("the disk is full.")
    source.released.set()
    pull = pulls.begin("hf:somebody/something/file.gguf")
    await ended(pulls)

    assert (pull.state, pull.error) == ("failed", "the disk is full.")


async def test_what_fails_unexpectedly_is_in_the_log_and_not_on_the_page(pulls: Pulls, source: Source) -> None:
    source.error = RuntimeError("/secret/path")
    source.released.set()
    pull = pulls.begin(DEFAULT.name)
    await ended(pulls)

    assert (pull.state, pull.error) == ("failed", "It failed; the log says why.")


async def test_a_pull_that_is_cancelled_ends_at_once(pulls: Pulls, source: Source) -> None:
    pull = pulls.begin(DEFAULT.name)
    await asyncio.sleep(0)
    await pulls.cancel(pull.id)

    assert (pull.state, source.cancelled) == ("cancelled", 1)
    await pulls.cancel(pull.id)
    assert source.cancelled == 1


async def test_a_pull_that_is_cancelled_before_its_first_step_is_over_too(pulls: Pulls) -> None:
    pull = pulls.begin(DEFAULT.name)
    await pulls.cancel(pull.id)

    assert pull.state == "cancelled"
    pulls.begin(DEFAULT.name)


async def test_all_pulls_end_with_the_instance(pulls: Pulls, source: Source) -> None:
    pulls.begin(DEFAULT.name)
    await asyncio.sleep(0)
    await pulls.close()

    assert source.cancelled == 1


@pytest.mark.parametrize("wanted", ["", "something", "/etc/passwd", "model.gguf", "hf:"])
async def test_only_known_models_and_those_of_a_hub_are_pulled(pulls: Pulls, wanted: str) -> None:
    with pytest.raises(InvalidRequest, match="nothing to pull"):
        pulls.begin(wanted)

    assert pulls.all() == []


async def test_the_same_is_not_pulled_twice_and_not_all_at_once(pulls: Pulls) -> None:
    pulls.begin(DEFAULT.name)
    with pytest.raises(InvalidRequest, match="already"):
        pulls.begin(DEFAULT.name)
    for number in range(1, MOST_AT_ONCE):
        pulls.begin(f"hf:somebody/something/{number}.gguf")
    with pytest.raises(Unavailable):
        pulls.begin("hf:somebody/something/more.gguf")


async def test_old_pulls_are_forgotten_and_running_ones_are_not(pulls: Pulls, source: Source) -> None:
    first = pulls.begin(DEFAULT.name)
    for number in range(KEPT + 3):
        pull = pulls.begin(f"hf:somebody/something/{number}.gguf")
        await asyncio.sleep(0)
        await pulls.cancel(pull.id)

    assert len(pulls.all()) == KEPT
    assert first in pulls.all()
    with pytest.raises(NotFound):
        pulls.found("pull_never")
