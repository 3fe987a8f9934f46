"""Which slot of llama.cpp's a request gets, and whether it may use what is there."""

from pathlib import Path

import pytest

from leadline.chat.events import Usage
from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.llamacpp.slots import Sent, Slots

LONG = "a long prompt " * 1000


def run(slots: Slots, scope: str, prompt: Sent, tokens: int = 10) -> tuple[int, bool]:
    """One request from its beginning to its end; its slot, and whether it used again what was there."""
    with slots.take(scope, prompt) as turn:
        turn.began(tokens)
        turn.ended(Usage(prompt_tokens=tokens))
    return turn.slot.number, turn.reuses


def test_a_request_goes_where_its_own_prompt_is():
    slots = Slots(8, 10_000)
    first, reused = run(slots, "a", "once upon a time")
    assert not reused
    run(slots, "a", "something else")
    assert run(slots, "a", "once upon a time there was") == (first, True)


def test_another_scope_never_uses_what_is_there():
    slots = Slots(8, 10_000)
    run(slots, "a", "the same")
    assert not run(slots, "b", "the same")[1]
    assert run(slots, "a", "the same")[1]
    assert run(slots, "b", "the same")[1]
    assert not run(slots, "c", "the same")[1]


def test_each_of_more_scopes_than_slots_begins_anew():
    slots = Slots(2, 10_000)
    assert [run(slots, scope, "the same")[1] for scope in "abcabcabc"] == [False] * 9


def test_what_did_not_begin_is_nobodys():
    """Nobody knows whether llama.cpp dropped what was there: not even its first owner uses it again."""
    slots = Slots(2, 10_000)
    number, _ = run(slots, "a", "x")
    run(slots, "a", LONG)
    with slots.take("b", "x") as turn:
        assert turn.slot.number == number
    assert not turn.reuses
    assert run(slots, "b", "x") == (number, False)
    with slots.take("c", "x") as turn:
        pass
    assert run(slots, "a", "x") == (number, False)


def test_a_slot_that_was_left_is_taken_last():
    """The request that left may still be on its way to it."""
    slots = Slots(8, 10_000)
    with slots.take("a", "x") as turn:
        pass
    taken = [run(slots, "b", f"{number} and more")[0] for number in range(3)]
    assert turn.slot.number not in taken
    slots._slots[turn.slot.number].used = -1
    assert run(slots, "b", "3 and more")[0] in taken


def test_one_that_did_not_begin_in_its_own_slot_changes_nothing():
    slots = Slots(2, 10_000)
    number, _ = run(slots, "a", "x y z")
    with slots.take("a", "x y"):
        pass
    assert run(slots, "a", "x y z") == (number, True)


def test_requests_at_once_have_slots_of_their_own():
    slots = Slots(2, 10_000)
    with slots.take("a", "x") as one, slots.take("a", "x") as other:
        assert one.slot is not other.slot


def test_short_prompts_are_read_before_long_ones():
    """llama.cpp reads in the order of its slots."""
    slots = Slots(8, 10_000)
    for _ in range(5):
        assert run(slots, "a", LONG)[0] >= 4
        assert run(slots, "b", (7,) * 2000)[0] >= 4
        assert run(slots, "c", "short")[0] < 4


def test_what_is_read_counts_not_what_is_there():
    slots = Slots(8, 10_000)
    number, _ = run(slots, "a", LONG)
    assert run(slots, "a", LONG + "and a short question") == (number, True)
    number, _ = run(slots, "a", "short")
    assert run(slots, "a", "short" + LONG)[0] >= 4


def test_a_long_conversation_is_not_lost_for_its_first_words():
    slots = Slots(8, 10_000)
    system = "You help with the garden. "
    conversation = system + "A question. " * 20
    number, _ = run(slots, "a", conversation)
    assert run(slots, "a", system + "Another question.")[0] != number
    assert run(slots, "a", conversation + "More.") == (number, True)


def test_tokens_are_compared_like_texts():
    slots = Slots(8, 10_000)
    number, _ = run(slots, "a", (1, 2, 3))
    assert run(slots, "a", (1, 2, 3, 4)) == (number, True)
    assert run(slots, "a", "123")[0] != number


def test_the_oldest_prompts_go_where_idle_ones_are_too_many():
    slots = Slots(8, 100)
    oldest, _ = run(slots, "a", "one", 60)
    newer, _ = run(slots, "a", "two", 60)
    assert slots.outgrown() == [oldest]
    assert slots.outgrown() == []
    assert run(slots, "a", "one")[1] is False
    newest, _ = run(slots, "a", "three", 500)
    assert newer in slots.outgrown()
    assert run(slots, "a", "three") == (newest, True)


def test_what_runs_is_not_erased():
    slots = Slots(4, 10)
    with slots.take("a", "x") as turn:
        turn.began(500)
        run(slots, "a", "y", 500)
        assert slots.outgrown() == []


@pytest.mark.parametrize(
    ("parallel", "batch_tokens", "embeds", "slots", "piece"),
    [(16, 0, False, 32, 128), (100, 0, False, 200, 200), (16, 8, False, 32, 32), (16, 0, True, 16, 64)],
)
def test_a_token_of_each_slot_fits_into_a_piece(
    parallel: int, batch_tokens: int, embeds: bool, slots: int, piece: int
) -> None:
    """llama.cpp ends at its start where it does not."""

    async def provide(_: object) -> Weights:
        raise NotImplementedError

    engine = LlamaCppEngine("a", provide, Settings(64, parallel, 1, batch_tokens=batch_tokens))
    _, told = engine._program(Weights(Path("a.gguf"), "digest", 64, embeds=embeds))
    assert (told["slots"], told["batch_tokens"]) == (slots, piece)
