"""The parts of the engine OpenVINO GenAI that need neither the library nor a model: what is said to its child, what
comes back, what is told of its cache, and which models it takes."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from leadline.chat.events import Finished, Started, TextDelta
from leadline.chat.request import ChatRequest, Message, Sampling, Text
from leadline.engines.embedded.chosen import ChosenEngine
from leadline.engines.embedded.engine import EmbeddedEngine
from leadline.engines.embedded.loader import Policy
from leadline.engines.embedded.model import Build, Projector, Settings, Weights
from leadline.engines.format.forms import parser_of
from leadline.engines.format.grammar import schema_grammar
from leadline.engines.format.template import ChatTemplate, Vocabulary
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.openvino import wire
from leadline.engines.openvino.answer import AnswerReader, asked, refuse_long, refuse_unable
from leadline.engines.openvino.engine import OpenVinoEngine
from leadline.engines.openvino.model import why_not
from leadline.engines.openvino.prefixes import BLOCK_TOKENS, Prefixes
from leadline.engines.openvino.vocabulary import Vocabulary as Tokens
from leadline.errors import EngineFailed, InvalidRequest, Unavailable

ASK = ChatRequest("m", (Message("user", (Text("hi"),)),), 8)
TEMPLATE = ChatTemplate(None, Vocabulary(special=("<|im_start|>", "<|im_end|>"), eos="<|im_end|>"))
PLAIN = Weights(Path("m.gguf"), "d", 512, TEMPLATE, build=Build("llama", "gpt2", frozenset({("attn_q.weight", 3)})))


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_messages_come_whole_however_they_are_cut(size):
    messages = [wire.Began(1, 5, 0), wire.Wrote(1, "né", 2, [(b"n", -0.5)]), wire.Ended(1, "stop", 0)]
    stream = b"".join(map(wire.encoded, messages))
    frames = wire.Frames()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [wire.decode_from_child(frame) for piece in pieces for frame in frames.feed(piece)] == messages


def test_a_message_that_is_too_long_is_none():
    with pytest.raises(wire.Broken):
        list(wire.Frames(most_bytes=10).feed(b"\xff\xff\xff\x7f"))


def prompt(blocks: int, start: int = 0) -> list[int]:
    return list(range(start, start + blocks * BLOCK_TOKENS + 1))


def once(prefixes: Prefixes, tokens: list[int]) -> int:
    holder = prefixes.begin(tokens)
    prefixes.computed(holder, tokens)
    prefixes.end(holder, tokens)
    return holder.cached_tokens


def test_a_prefix_is_told_once_it_was_computed():
    prefixes = Prefixes(100)
    first = prefixes.begin(prompt(3))
    assert prefixes.begin(prompt(3)).cached_tokens == 0
    prefixes.computed(first, prompt(3))
    assert prefixes.begin(prompt(3)).cached_tokens == 3 * BLOCK_TOKENS
    assert prefixes.begin(prompt(2) + prompt(2, 10_000)).cached_tokens == 2 * BLOCK_TOKENS


def test_a_prefix_that_others_may_have_written_over_is_not_told():
    prefixes = Prefixes(12)
    once(prefixes, prompt(3))
    once(prefixes, prompt(3, 10_000))
    assert once(prefixes, prompt(3)) == 3 * BLOCK_TOKENS
    once(prefixes, prompt(3, 20_000))
    once(prefixes, prompt(3, 30_000))
    assert once(prefixes, prompt(3)) == 0


def test_what_somebody_still_uses_is_not_written_over():
    prefixes = Prefixes(20)
    long = prefixes.begin(prompt(2))
    prefixes.computed(long, prompt(2))
    for number in range(1, 9):
        once(prefixes, prompt(3, number * 10_000))
    assert once(prefixes, prompt(2)) == 2 * BLOCK_TOKENS


def test_requests_that_are_alike_are_not_taken_for_each_other():
    prefixes = Prefixes(40)
    one, other = (prefixes.begin(prompt(0)) for _ in range(2))
    prefixes.end(other, prompt(0))
    one.tokens += 5
    prefixes.end(one, prompt(0))
    assert once(prefixes, prompt(2)) == 0
    assert once(prefixes, prompt(2)) == 2 * BLOCK_TOKENS


class Letters:
    """A tokenizer with a token for each character."""

    def get_vocab(self) -> dict[bytes, int]:
        return {bytes([number]): number for number in range(256)} | {b"<|im_end|>": 256, b"<tool_call>": 257}

    def get_eos_token_id(self) -> int:
        return 256


def test_a_character_comes_once_it_is_whole_and_special_tokens_have_no_text():
    tokens = Tokens.of(Letters(), ["<|im_end|>", "<tool_call>"], ["<|im_end|>"])
    writer = tokens.writer(["<tool_call>", "<|im_end|>"])
    assert [writer.write([one]) for one in (0xC3, 0xA9, 257, 256)] == ["", "é", "<tool_call>", ""]
    silent = tokens.writer([])
    assert silent.write([257, 0xC3]) + silent.end() == "�"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sampling": Sampling(logit_bias=((1, 5.0),))}, "logit_bias"),
        ({"top_logprobs": 2, "sampling": Sampling(temperature=0.0)}, "top_logprobs"),
        ({"top_logprobs": 1}, "top_logprobs"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(change, field):
    with pytest.raises(InvalidRequest) as refused:
        refuse_unable(replace(ASK, **change))
    assert refused.value.param == field


def test_what_it_can_do_is_not_refused():
    refuse_unable(replace(ASK, top_logprobs=0))
    refuse_unable(replace(ASK, top_logprobs=1, sampling=Sampling(temperature=0.0)))


def grammar(*lengths: int) -> str:
    texts = {f"p{length}": {"type": "string", "maxLength": length} for length in lengths}
    return schema_grammar({"type": "object", "properties": texts})


def test_a_grammar_that_would_be_read_for_seconds_is_refused():
    refuse_long(None)
    refuse_long(grammar(2_048))
    with pytest.raises(InvalidRequest, match="5,000 repeats"):
        refuse_long(grammar(2_048, 1_000, 900))


def test_users_texts_go_to_the_child_as_plain_ones_and_the_scope_with_them():
    pieces = TEMPLATE.render(replace(ASK, messages=(Message("user", (Text("a<|im_end|>b"),)),)))
    message = asked(3, replace(ASK, cache_scope="org_1", sampling=Sampling(seed=-1)), pieces, TEMPLATE, None)
    assert ("a<", False) in message.prompt
    assert ("|im_end|>b", False) in message.prompt
    assert (message.number, message.scope, message.seed, message.most_tokens) == (3, "org_1", 2**32 - 1, 8)


def reader() -> AnswerReader:
    return AnswerReader(parser_of(ASK, TEMPLATE, in_thoughts=False), 0)


def test_an_answer_is_counted_as_it_comes():
    one = reader()
    events = one.read(
        [wire.Began(1, 5, 4), wire.Wrote(1, "ab", 2, [(b"a", -1.0), (b"b", -2.0)]), wire.Ended(1, "length", 4)]
    )
    assert events[0] == Started(5, 4)
    assert [event.text for event in events if isinstance(event, TextDelta)] == ["ab"]
    assert isinstance(events[-1], Finished)
    usage = events[-1].usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.output_tokens) == (5, 4, 2)
    assert one.done


def test_what_the_child_could_not_do_is_an_error():
    with pytest.raises(EngineFailed):
        reader().read([wire.Failed(1, "failed")])
    with pytest.raises(InvalidRequest):
        reader().read([wire.Failed(1, "invalid")])


@pytest.mark.parametrize(
    ("weights", "why"),
    [
        (PLAIN, None),
        (replace(PLAIN, embeds=True), "vectors"),
        (replace(PLAIN, projector=Projector(Path("p.gguf"), "d")), "projector"),
        (replace(PLAIN, build=replace(PLAIN.build, architecture="gemma3")), "architecture gemma3"),
        (replace(PLAIN, build=replace(PLAIN.build, tokenizer="llama")), "tokenizer"),
        (replace(PLAIN, build=replace(PLAIN.build, tensors=frozenset())), "several files"),
        (replace(PLAIN, build=replace(PLAIN.build, tensors=frozenset({("attn_q.weight", 6)}))), "types"),
        (replace(PLAIN, build=replace(PLAIN.build, tensors=frozenset({("rope_freqs.weight", 0)}))), "plain ones"),
    ],
)
def test_which_models_it_runs(weights, why):
    said = why_not(weights)
    assert said is None if why is None else why in (said or "")


def chosen(weights: Callable[[Callable[[str], None]], object], wait_seconds: float = 0) -> ChosenEngine:
    before = LlamaCppEngine("one", weights, Settings(512, 1, 1), policy=Policy(wait_seconds=wait_seconds))  # type: ignore[arg-type]

    def choose(found: Weights) -> EmbeddedEngine:
        async def provide(_: Callable[[str], None]) -> Weights:
            return found

        kind = LlamaCppEngine if why_not(found) else OpenVinoEngine
        return kind("one", provide, Settings(512, 1, 1), policy=Policy(at_start=False))

    return ChosenEngine("one", before, choose)


@pytest.mark.parametrize(("weights", "kind"), [(PLAIN, OpenVinoEngine), (replace(PLAIN, embeds=True), LlamaCppEngine)])
async def test_the_engine_is_chosen_by_the_weights(weights, kind):
    async def provide(_: Callable[[str], None]) -> Weights:
        return weights

    engine = chosen(provide)
    await engine.start()
    try:
        async with asyncio.timeout(10):
            while not engine.status.ready:
                await asyncio.sleep(0)
        assert type(engine.engine) is kind
        assert engine.facts("m").context_tokens == 512
    finally:
        await engine.close()


async def test_until_there_are_weights_a_request_is_told_why_not():
    here = asyncio.Event()

    async def provide(tell: Callable[[str], None]) -> Weights:
        tell("downloading m")
        await here.wait()
        return PLAIN

    engine = chosen(provide)
    await engine.start()
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="downloading m"):
            await engine.take()
    finally:
        await engine.close()
