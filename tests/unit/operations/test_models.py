"""From the configuration to engines: when each loads, and what they share."""

from pathlib import Path

import pytest

from leadline.config import ConfigurationError, load
from leadline.engines.engine import Engine
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.llamacpp.loader import Policy
from leadline.operations import models
from leadline.weights.store import Store


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


@pytest.mark.parametrize("line", ['load = "never"', "load_wait_seconds = 601", "unload_after_seconds = -1"])
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
    monkeypatch.setattr(models, "_machine_bytes", lambda: 10_000)
    [engine] = engines_of(tmp_path, "")

    assert isinstance(engine, LlamaCppEngine)
    assert engine.memory.budget_bytes == 8_000


@pytest.mark.parametrize(
    ("lines", "shares"),
    [(("",), False), (("", ""), True), (("threads = 2", "threads = 2"), False), (("threads = 3", "threads = 2"), True)],
)
def test_threads_sleep_only_where_there_are_more_than_cores(tmp_path, monkeypatch, lines, shares):
    monkeypatch.setattr(models, "_usable_cores", lambda: 4)

    assert [engine.settings.shares_cores for engine in engines_of(tmp_path, *lines)] == [shares] * len(lines)
