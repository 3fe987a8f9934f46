"""What a pool is made of: warm prefixes, the choice between workers, the breaker, and the queue."""

import asyncio
from dataclasses import replace

import pytest

from leadline.chat.request import ChatRequest, Message, Text, Tool
from leadline.engines.pool.breaker import Breaker
from leadline.engines.pool.engine import _best
from leadline.engines.pool.prefixes import WarmPrefixes, beginnings
from leadline.engines.pool.queue import FairQueue, Waiting
from leadline.engines.pool.worker import Worker
from leadline.engines.upstream.engine import UpstreamEngine
from leadline.errors import DeadlineExceeded, EngineFailed, Unavailable

LONG = "a long story about a fox and a hen. " * 200


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def conversation(*texts: str, scope: str = "alice", model: str = "tiny", system: str = "Be kind.") -> ChatRequest:
    said = [Message("assistant" if number % 2 else "user", (Text(text),)) for number, text in enumerate(texts)]
    return ChatRequest(model, (Message("system", (Text(system),)), *said), cache_scope=scope)


def worker(name: str, most: int = 0) -> Worker:
    return Worker(name, UpstreamEngine("pool", "openai", "http://w/v1"), Breaker(Clock()), most, lambda: None)


def workers(count: int = 3) -> list[Worker]:
    return [worker(f"http://w{number}/v1") for number in range(count)]


async def test_the_next_turn_of_a_conversation_is_warm_where_the_last_one_was():
    warm, turn = WarmPrefixes(), conversation(LONG)
    warm.remember(beginnings(turn))
    following = beginnings(conversation(LONG, "An answer.", "And then?"))
    assert warm.tokens(following) == beginnings(turn).all_tokens
    assert warm.tokens(beginnings(conversation("Something else.", "An answer.", "And then?"))) < 20


@pytest.mark.parametrize(
    "other",
    [
        conversation(LONG, scope="bob"),
        conversation(LONG, model="large"),
        conversation(LONG, system="Be brief."),
        replace(conversation(LONG), tools=(Tool("clock"),)),
    ],
)
def test_what_another_organisation_model_or_beginning_had_is_not_warm(other):
    warm = WarmPrefixes()
    warm.remember(beginnings(conversation(LONG)))
    assert warm.tokens(beginnings(other)) == 0


def test_a_plain_prompt_that_grows_stays_warm():
    warm = WarmPrefixes()
    warm.remember(beginnings(ChatRequest("tiny", (), prompts=(LONG,))))
    assert warm.tokens(beginnings(ChatRequest("tiny", (), prompts=(LONG + "The end.",)))) >= len(LONG) // 4 - 512


def test_prefixes_are_remembered_up_to_a_bound_the_newest_and_shortest_longest():
    warm = WarmPrefixes(most=4)
    first = beginnings(conversation("one", "two", "three"))
    assert len(first.digests) == 4
    warm.remember(first)
    warm.remember(beginnings(conversation("another")))
    assert 0 < warm.tokens(first) < first.all_tokens
    assert len(warm._known) == 4


def test_a_prompt_of_any_size_has_few_beginnings():
    huge = beginnings(conversation("x" * 3_000_000))
    assert len(huge.digests) == 256
    assert beginnings(conversation("x" * 3_000_000, "and more")).digests == huge.digests


async def test_a_conversation_stays_with_its_worker_until_that_is_clearly_busier():
    pool, turn = workers(), beginnings(conversation(LONG))
    own = _best(pool, turn)
    own.begin(turn).close()
    following = beginnings(conversation(LONG, "An answer.", "And then?"))
    assert _best(pool, following) is own
    others = [own.begin(beginnings(conversation(f"{number}"))) for number in range(4)]
    assert _best(pool, following) is own
    others += [own.begin(beginnings(conversation(f"{number}" + LONG))) for number in range(4)]
    assert _best(pool, following) is not own
    for one in others:
        one.close()
    assert _best(pool, following) is own


async def test_new_conversations_are_spread_and_every_node_spreads_them_alike():
    pool, same = workers(), workers()
    prompts = [beginnings(conversation(f"Question {number}")) for number in range(60)]
    chosen = [_best(pool, prompt).at for prompt in prompts]
    assert chosen == [_best(list(reversed(same)), prompt).at for prompt in prompts]
    assert min(chosen.count(one.at) for one in pool) >= 10
    # One that goes takes only its own along.
    left = [_best(pool[:2], prompt).at for prompt in prompts]
    assert all(now == before for now, before in zip(left, chosen, strict=True) if before != pool[2].at)


async def test_the_least_loaded_worker_has_the_next_request():
    pool = workers()
    prompts = [beginnings(conversation(f"{number}" + LONG)) for number in range(9)]
    running = [_best(pool, prompt).begin(prompt) for prompt in prompts]
    assert [len(one.tries) for one in pool] == [3, 3, 3]
    for one in running:
        one.close()
        one.close()
    other = beginnings(conversation("Something else.", system="Be brief."))
    assert {one.cost(other) for one in pool} == {other.all_tokens}


def test_a_breaker_opens_after_five_failures_and_lets_one_in_to_see():
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(4):
        breaker.fail()
    assert breaker.permits
    breaker.fail()
    assert (breaker.circuit, breaker.permits) == ("open", False)
    clock.now += 5
    assert (breaker.circuit, breaker.permits) == ("half-open", True)
    assert breaker.begin()
    assert not breaker.permits
    breaker.fail()
    clock.now += 5
    assert breaker.circuit == "open", "each time it stays open twice as long"
    clock.now += 5
    assert breaker.begin()
    breaker.succeed()
    assert (breaker.circuit, breaker.permits, breaker.begin()) == ("closed", True, False)


def test_one_let_in_to_see_that_shows_nothing_is_followed_by_another():
    clock = Clock()
    breaker = Breaker(clock)
    for _ in range(5):
        breaker.fail()
    clock.now += 5
    assert breaker.begin()
    breaker.see_another()
    assert breaker.permits


def test_a_success_between_failures_keeps_it_closed():
    breaker = Breaker(Clock())
    for _ in range(3):
        for _ in range(4):
            breaker.fail()
        breaker.succeed()
    assert breaker.permits


@pytest.mark.parametrize(("error", "fails"), [(EngineFailed(), 1), (DeadlineExceeded(), 1), (Unavailable(), 0)])
async def test_busy_is_no_failure_but_a_short_pause(error, fails):
    one = worker("http://w/v1")
    asked = one.begin(beginnings(conversation("hi")))
    asked.fail(error)
    asked.close()
    assert one.failures == fails
    assert one.breaker.permits == bool(fails)


def queue_of(*asked: tuple[str, int], most: int = 256) -> tuple[FairQueue, list[Waiting]]:
    queue, waiting = FairQueue(most=most), []
    for scope, tokens in asked:
        one = Waiting(scope, tokens, asyncio.get_running_loop().create_future(), lambda: None)
        waiting.append(one)
        queue.add(one)
    return queue, waiting


def serve(queue: FairQueue, count: int) -> list[str]:
    """Room for so many comes free, one after another; whose turn it was."""
    served: list[str] = []
    for _ in range(count):
        room = [True]

        def claim(one: Waiting, room=room) -> object:
            if not room:
                return None
            room.pop()
            served.append(one.scope)
            return object()

        for line in queue._lines.values():
            for one in line:
                one.claim = lambda one=one: claim(one)
        queue.let_in()
    return served


async def test_organisations_take_turns_whoever_came_first_with_however_many():
    queue, _ = queue_of(*[("alice", 10)] * 5, *[("bob", 10)] * 2)
    assert serve(queue, 4) in (["alice", "bob", "alice", "bob"], ["bob", "alice", "bob", "alice"])
    assert serve(queue, 9) == ["alice"] * 3
    assert len(queue) == 0


async def test_turns_are_counted_in_tokens():
    queue, _ = queue_of(*[("alice", 1000)] * 4, *[("bob", 100)] * 12)
    served = serve(queue, 12)
    assert served.count("bob") == 10


async def test_one_that_comes_back_again_and_again_has_no_more_than_its_share():
    queue, _ = queue_of(*[("bob", 100)] * 20)
    served = []
    for _ in range(10):
        if "alice" not in queue._lines:
            queue.add(Waiting("alice", 400, asyncio.get_running_loop().create_future(), lambda: None))
        served += serve(queue, 1)
    assert served.count("alice") <= 3


async def test_a_full_queue_refuses_or_takes_the_place_of_who_has_most():
    queue, waiting = queue_of(*[("alice", 10)] * 4, most=4)
    with pytest.raises(Unavailable):
        queue.add(Waiting("alice", 1, asyncio.get_running_loop().create_future(), lambda: None))
    bob = Waiting("bob", 10, asyncio.get_running_loop().create_future(), lambda: None)
    queue.add(bob)
    assert [one.turn.done() for one in waiting] == [False, False, False, True]
    assert isinstance(waiting[3].turn.exception(), Unavailable)
    assert len(queue) == 4
    assert serve(queue, 2) in (["alice", "bob"], ["bob", "alice"])


async def test_one_that_can_use_nothing_that_is_free_is_passed_over():
    queue, (alice, bob) = queue_of(("alice", 10), ("bob", 10))
    bob.claim = lambda: "a worker"
    queue.let_in()
    assert (alice.turn.done(), bob.turn.result()) == (False, "a worker")
