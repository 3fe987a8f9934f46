"""From the configuration to engines: when each loads, and what they share."""

import hashlib
from pathlib import Path

import pytest

from leadline.administration import models
from leadline.config import ConfigurationError, load
from leadline.engines.embedded.loader import Policy
from leadline.engines.embedded.machine import Machine
from leadline.engines.embedded.model import Projector, Weights
from leadline.engines.engine import Engine
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.llamacpp.model import facts_of
from leadline.errors import LeadlineError
from leadline.weights.store import Store
from tests.scripted.gguf import CONTROL, PROJECTOR, SMALL, TOKENS, gguf
from tests.scripted.q4_1 import q4_1_file


def engines_of(tmp_path: Path, *lines: str, more: str = "") -> list[Engine]:
    """Embedded engines with these lines in their sections, and a model on the first."""
    sections = (f'[[engines]]\nname = "e{i}"\nkind = "llamacpp"\n{line}\n' for i, line in enumerate(lines))
    text = f'{more}\n{"".join(sections)}[[models]]\nname = "m"\nengine = "e0"\n'
    (tmp_path / "leadline.toml").write_text(text)
    return models.build(load(tmp_path / "leadline.toml", {}), Store(tmp_path / "models"), 0)[0]


@pytest.mark.parametrize(
    ("line", "policy"),
    [
        ("", Policy(at_start=True, wait_seconds=0, idle_seconds=0)),
        ('load = "demand"', Policy(at_start=False, wait_seconds=60, idle_seconds=0)),
        ('load = "demand"\nload_wait_seconds = 0', Policy(at_start=False, wait_seconds=0, idle_seconds=0)),
        (
            "load_wait_seconds = 5\nunload_after_seconds = 9",
            Policy(at_start=True, wait_seconds=5, idle_seconds=9),
        ),
    ],
)
def test_when_an_engine_loads_is_its_sections_to_say(tmp_path, line, policy):
    [engine] = engines_of(tmp_path, line)

    assert isinstance(engine, LlamaCppEngine)
    assert engine.policy == policy


@pytest.mark.parametrize(
    "line",
    [
        *('load = "never"', "load_wait_seconds = 601", "unload_after_seconds = -1"),
        *("batch_tokens = 63", "batch_tokens = 90\nparallel_requests = 64"),
        *('requantise = "on"', 'cache_type = "q4_0"'),
    ],
)
def test_what_cannot_be_is_named(tmp_path, line):
    with pytest.raises(ConfigurationError, match=line.split()[0]):
        engines_of(tmp_path, line)


def test_all_embedded_engines_share_one_memory(tmp_path):
    one, other = engines_of(tmp_path, "", "", more="[embedded]\nmemory_megabytes = 700")

    assert isinstance(one, LlamaCppEngine)
    assert isinstance(other, LlamaCppEngine)
    assert one.memory is other.memory
    assert one.memory.budget_bytes == 700_000_000


def test_the_memory_of_the_machine_bounds_them_where_nobody_says(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "this_machine", lambda: Machine(4, 4, None, 10_000))
    [engine] = engines_of(tmp_path, "")

    assert isinstance(engine, LlamaCppEngine)
    assert engine.memory.budget_bytes == 8_000


@pytest.mark.parametrize(
    ("lines", "shares"),
    [(("",), False), (("", ""), True), (("threads = 2", "threads = 2"), False), (("threads = 3", "threads = 2"), True)],
)
def test_threads_sleep_only_where_there_are_more_than_cores(tmp_path, monkeypatch, lines, shares):
    monkeypatch.setattr(models, "this_machine", lambda: Machine(8, 4, None, 10**10))

    assert [engine.settings.shares_cores for engine in engines_of(tmp_path, *lines)] == [shares] * len(lines)


async def weights_of(tmp_path: Path, line: str) -> Weights:
    """What an engine with this line in its section would load, from a folder of models with a small one."""
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    (folder / "tiny.gguf").write_bytes(gguf(SMALL))
    [engine] = engines_of(tmp_path, f'weights = "tiny"\n{line}')
    assert isinstance(engine, LlamaCppEngine)
    return await engine.provide(lambda _: None)


async def test_a_projector_makes_a_model_see_and_is_in_its_fingerprint_and_memory(tmp_path):
    file = tmp_path / "mmproj.gguf"
    file.write_bytes(gguf(PROJECTOR))
    blind, sees = await weights_of(tmp_path, ""), await weights_of(tmp_path, f'projector = "{file}"')

    digest = hashlib.sha256(gguf(PROJECTOR)).hexdigest()
    assert (blind.projector, sees.projector) == (None, Projector(file, digest, len(gguf(PROJECTOR))))
    before, after = (facts_of(one, 512) for one in (blind, sees))
    assert after.capabilities - before.capabilities == {"vision"}
    assert [fact for fact in after.fingerprint if fact not in before.fingerprint] == [f"projector {digest}"]
    assert sees.all_bytes - blind.all_bytes == len(gguf(PROJECTOR))


async def test_the_projector_that_came_with_a_model_is_found(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.mmproj").write_bytes(gguf(PROJECTOR))

    sees = await weights_of(tmp_path, "")

    assert sees.projector is not None
    assert sees.projector.path == tmp_path / "models" / "tiny.mmproj"


@pytest.mark.parametrize(("content", "told"), [(None, "no projector '"), (gguf(SMALL), "is no projector")])
async def test_a_projector_that_is_none_is_told(tmp_path, content, told):
    file = tmp_path / "mmproj.gguf"
    if content is not None:
        file.write_bytes(content)

    with pytest.raises(LeadlineError, match=told):
        await weights_of(tmp_path, f'projector = "{file}"')


def test_a_remote_engine_takes_no_projector(tmp_path):
    (tmp_path / "leadline.toml").write_text(
        '[[engines]]\nname = "far"\nkind = "vllm"\nurl = "http://127.0.0.1:1/v1"\nprojector = "mmproj.gguf"\n'
        '[[models]]\nname = "m"\nengine = "far"\n'
    )

    with pytest.raises(ConfigurationError, match="'far' is remote and takes no projector"):
        load(tmp_path / "leadline.toml", {})


@pytest.mark.parametrize(
    ("family", "tokens", "most"), [("lfm2", [], 1024), ("lfm2", ["<|img_row_1_col_1|>"], 0), ("mlp", [], 0)]
)
async def test_images_stay_in_one_piece_where_the_model_has_no_tokens_for_tiles(tmp_path, family, tokens, most):
    words = list(TOKENS) + tokens
    kinds = [*TOKENS.values(), *[CONTROL] * len(tokens)]
    (tmp_path / "model.gguf").write_bytes(
        gguf(SMALL | {"tokenizer.ggml.tokens": words, "tokenizer.ggml.token_type": kinds})
    )
    (tmp_path / "mmproj.gguf").write_bytes(gguf(PROJECTOR | {"clip.projector_type": family}))
    lines = f'weights = "{tmp_path / "model.gguf"}"\nprojector = "{tmp_path / "mmproj.gguf"}"'
    [engine] = engines_of(tmp_path, lines)
    assert isinstance(engine, LlamaCppEngine)

    projector = (await engine.provide(lambda _: None)).projector

    assert projector is not None
    assert projector.image_tokens == most


async def provided(tmp_path: Path, line: str = "", more: str = "") -> tuple[Weights, tuple[str, ...]]:
    """The weights that an engine gets of a file with slow types, and its fingerprint."""
    (tmp_path / "slow.gguf").write_bytes(q4_1_file())
    [engine] = engines_of(tmp_path, f'weights = "{tmp_path / "slow.gguf"}"\n{line}', more=more)
    assert isinstance(engine, LlamaCppEngine)
    weights = await engine.provide(lambda _: None)
    return weights, facts_of(weights, 2048).fingerprint


async def test_slow_weights_are_requantised_and_the_fingerprint_says_so(tmp_path):
    kept, old = await provided(tmp_path, 'requantise = "off"')
    weights, new = await provided(tmp_path)
    assert kept.path == tmp_path / "slow.gguf"
    assert weights.path.parent == tmp_path / "models" / ".requantised"
    assert weights.size_bytes == weights.path.stat().st_size > kept.size_bytes
    assert weights.digest == kept.digest
    assert set(new) - set(old) == {"requantised Q8_0"}


async def test_weights_stay_as_they_are_where_memory_is_too_small_for_more(tmp_path):
    weights, _ = await provided(tmp_path, more="[embedded]\nmemory_megabytes = 100")
    assert weights.path == tmp_path / "slow.gguf"
