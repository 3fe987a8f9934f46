"""KNOWN_BUGS, part E: a client that hangs up stops the engine, and pays for what it got. The engine's side is told by
the engine: its connection ends."""

import pytest

from tests.conformance.remote import Remote
from tests.conformance.told import PATHS, question
from tests.raw import open_post
from tests.scripted.upstream import Reply, delta, sse

STREAMS = pytest.mark.parametrize("dialect", PATHS)
BEGUN = sse(delta(content="one"), delta(content=" two"), delta(content=" three"), done=False)


@pytest.fixture
def endless(remote: Remote):
    """The remote server says three words and stays silent; what hung up on it so far is forgotten."""
    remote.upstream.reply = Reply(pieces=(BEGUN,), ends="never")
    remote.upstream.hung_up.clear()
    return remote


def ask_and_leave(remote: Remote, dialect, *, stream):
    raw = open_post(remote.server.port, PATHS[dialect], remote.server.api_key, question(dialect, "openai", stream))
    if stream:
        raw.read_until(b"three")
    else:
        remote.server.wait_until(lambda: _made(remote) == 3)
    raw.hang_up()
    remote.server.wait_until(remote.upstream.hung_up.is_set)
    remote.server.wait_until(lambda: not remote.server.instance.ledger.running())
    return remote.server.charges()[-1]


def _made(remote: Remote):
    """Tokens that the engine made for the one request that runs."""
    return max((one.usage.output_tokens for one in remote.server.pipeline.running._generations), default=0)


@STREAMS
def test_51_a_stream_that_is_left_ends_the_engines_work(endless, dialect):
    """litellm #30244"""
    assert ask_and_leave(endless, dialect, stream=True).reason == "interrupted"


def test_52_it_is_the_same_in_every_dialect(endless):
    """litellm #36123"""
    charges = [-ask_and_leave(endless, dialect, stream=True).amount_ticks for dialect in ("messages", "responses")]
    assert charges[0] == charges[1]


@STREAMS
def test_53_a_whole_answer_that_is_left_ends_the_engines_work(endless, dialect):
    """litellm #37140"""
    assert ask_and_leave(endless, dialect, stream=False).reason == "interrupted"


@STREAMS
def test_54_the_tokens_that_were_delivered_are_charged(endless, dialect):
    """litellm #14457"""
    charge = ask_and_leave(endless, dialect, stream=True)
    prompt_ticks, output_ticks = 10_000, 20_000
    assert -charge.amount_ticks == prompt_ticks + 3 * output_ticks


def test_55_the_engine_itself_says_that_nothing_runs_any_more(endless):
    """vllm #54947"""
    ask_and_leave(endless, "chat", stream=True)
    endless.upstream.reply = Reply(pieces=(sse(delta(content="a")),))
    assert endless.says(delta(content="a")).text == "a"
