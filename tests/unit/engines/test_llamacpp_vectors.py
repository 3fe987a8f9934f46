"""The embedded engine makes vectors: the real child with a tiny encoder, against an oracle in plain Python."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from leadline.administration.models import build
from leadline.chat.events import Embedded, Finished, Started
from leadline.chat.request import ChatRequest, Vectors
from leadline.config import load
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.llamacpp.vectors import grouped
from leadline.errors import InvalidRequest
from leadline.weights.bert import bert_to_gguf
from leadline.weights.store import Store
from tests.bert import LONGEST, WORDS, TinyBert

DEADLINE_SECONDS = 60
CLS, SEP = WORDS.index("[CLS]"), WORDS.index("[SEP]")
BERT = TinyBert()
CONFIGURATION = """
[[engines]]
name = "embedder"
kind = "llamacpp"
weights = "tiny"
[[models]]
name = "tiny"
engine = "embedder"
"""


@asynccontextmanager
async def running(tmp_path: Path) -> AsyncIterator[LlamaCppEngine]:
    """As `serve` builds it from a file."""
    store = Store(tmp_path / "models")
    store.put("tiny", bert_to_gguf("tiny", BERT.safetensors, BERT.config, BERT.vocabulary))
    (tmp_path / "leadline.toml").write_text(CONFIGURATION)
    [engine], catalog = build(load(tmp_path / "leadline.toml", {}), store, 0)
    assert isinstance(engine, LlamaCppEngine)
    await engine.start()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not engine.status.ready:
                await asyncio.sleep(0.01)
        assert catalog.find("tiny").capabilities == {"embeddings"}
        assert catalog.find("tiny").context == LONGEST
        yield engine
    finally:
        await engine.close()


def ask(*prompts: str | tuple[int, ...]) -> ChatRequest:
    return ChatRequest("tiny", (), 0, choices=len(prompts), prompts=prompts, vectors=Vectors())


def tokens(*words: str) -> list[int]:
    return [CLS, *(WORDS.index(word) for word in words), SEP]


async def vectors(engine: LlamaCppEngine, *prompts: str | tuple[int, ...]) -> tuple[list[list[float]], list[int], int]:
    """The vectors, the tokens of each prompt as it began, and all tokens at the end."""
    found: dict[int, list[float]] = {}
    begun: list[int] = []
    total = 0
    async with aclosing(engine.embed(ask(*prompts))) as batches:
        async for batch in batches:
            for event in batch:
                match event:
                    case Started(prompt_tokens=int(count)):
                        begun.append(count)
                    case Embedded():
                        found[event.choice] = event.vector.tolist()
                    case Finished():
                        total = event.usage.prompt_tokens
    return [found[number] for number in range(len(prompts))], begun, total


async def test_vectors_are_those_of_the_model_and_tokens_are_counted(tmp_path):
    async with running(tmp_path) as engine:
        sentences = {
            "the cat": tokens("the", "cat"),
            "The CATS sitting on the mat": tokens("the", "cat", "##s", "sit", "##ting", "on", "the", "mat"),
            "dog": tokens("[UNK]"),
            # What users wrote is ordinary text: no word of the vocabulary, and no token of the model's own.
            "cat [SEP] cat": tokens("cat", "[UNK]", "[UNK]", "[UNK]", "cat"),
            "mat": tokens("mat"),
        }
        found, begun, total = await vectors(engine, *sentences)
        assert begun == [len(expected) for expected in sentences.values()]
        assert total == sum(begun) == await engine.count_prompt_tokens(ask(*sentences))
        for vector, expected in zip(found, sentences.values(), strict=True):
            assert vector == pytest.approx(BERT.vector(expected), abs=2e-3)

        # Tokens are between the same marks as the text that they are.
        of_tokens, begun, _ = await vectors(engine, tuple(tokens("the", "cat")[1:-1]), "the cat")
        assert of_tokens[0] == pytest.approx(of_tokens[1])
        assert begun == [4, 4]
        with pytest.raises(InvalidRequest, match=f"no token {len(WORDS)}") as refused:
            await vectors(engine, (len(WORDS),))
        assert refused.value.param == "input"

        # As long as the context, and one longer.
        _, begun, _ = await vectors(engine, " ".join(["cat"] * (LONGEST - 2)))
        assert begun == [LONGEST]
        with pytest.raises(InvalidRequest, match=f"{LONGEST} tokens, but the prompt has {LONGEST + 1}"):
            await vectors(engine, "mat", " ".join(["cat"] * (LONGEST - 1)))

        # What its own tokenizer endpoint says goes back in.
        said = await engine.tokenize("tiny", "the cats")
        assert [token.token_id for token in said] == tokens("the", "cat", "##s")[1:-1]


async def test_a_prompt_that_comes_while_the_child_is_gone_is_given_to_the_next_one(tmp_path):
    async with running(tmp_path) as engine:
        [expected], _, _ = await vectors(engine, "the cat")
        assert engine.child is not None
        os.kill(engine.child.pid, signal.SIGKILL)
        assert (await vectors(engine, "the cat"))[0] == [expected]


def test_prompts_go_together_as_far_as_a_batch_holds_them():
    prompts = [[1] * size for size in (4, 3, 3, 10, 1, 9, 2)]
    groups = list(grouped(prompts, 10))
    assert [[len(prompt) for prompt in group] for group in groups] == [[4, 3, 3], [10], [1, 9], [2]]
    assert list(grouped([], 10)) == []


def test_a_known_embedding_model_is_known_not_to_chat_before_its_weights_are_here(tmp_path):
    configuration = CONFIGURATION.replace('weights = "tiny"', 'weights = "all-minilm-l6-v2"')
    chat = '[[engines]]\nname = "gpu"\nkind = "vllm"\nurl = "http://127.0.0.1:1/v1"\n'
    chat += '[[models]]\nname = "talker"\nengine = "gpu"\n'
    (tmp_path / "leadline.toml").write_text(configuration + chat)
    _, catalog = build(load(tmp_path / "leadline.toml", {}), Store(tmp_path / "models"), 0)
    assert catalog.find("tiny").capabilities == {"embeddings"}
    assert catalog.find("grok-beta").name == "talker"
