"""What is chosen by the machine, and why."""

from pathlib import Path

import pytest

from leadline.engines.embedded.machine import (
    Machine,
    cache_type,
    context_tokens,
    memory_bytes,
    parallel_requests,
    read_machine,
    threads,
)


@pytest.mark.parametrize(
    ("machine", "asked", "value", "why"),
    [
        (Machine(8, 8, None, 0), 0, 8, "one for each core"),
        (Machine(8, 4, None, 0), 0, 4, "physical core"),
        (Machine(8, 4, 2.5, 0), 0, 2, "control group allows 2.5 of 8"),
        (Machine(8, 4, 0.5, 0), 0, 1, "control group allows 0.5 of 8"),
        (Machine(8, 4, 6.0, 0), 0, 4, "physical core"),
        (Machine(8, 4, 2.5, 0), 7, 7, "setting"),
    ],
)
def test_threads(machine, asked, value, why):
    choice = threads(machine, asked)
    assert choice.value == value
    assert why in choice.why


def test_what_is_asked_for_is_what_is_chosen():
    assert (parallel_requests(3).value, context_tokens(512).value) == (3, 512)
    assert (parallel_requests(0).value, context_tokens(0).value) == (16, 8192)


def test_memory_is_a_share_of_what_may_be_taken_or_what_is_asked_for():
    machine = Machine(1, 1, None, 1_000_000_000)
    assert memory_bytes(machine, 0).value == 800_000_000
    assert memory_bytes(machine, 300).value == 300_000_000


def test_the_token_cache_is_smaller_only_where_it_must_be():
    assert cache_type(None, 100, 100)[0] == "f16"
    assert cache_type(None, 101, 100)[0] == "q8_0"
    assert cache_type("f16", 101, 100)[0] == "f16"
    assert cache_type("q8_0", 1, 100)[0] == "q8_0"


def test_the_control_groups_bounds_are_read(tmp_path: Path):
    group = tmp_path / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("150000 100000\n")
    (group / "memory.max").write_text("123456789\n")
    machine = read_machine(tmp_path)
    assert (machine.quota_cores, machine.memory_bytes) == (1.5, 123_456_789)
    assert machine.cores == machine.physical_cores > 0


@pytest.mark.parametrize("said", ["max 100000", "", "0 0", "nonsense"])
def test_no_bound_is_no_bound(tmp_path: Path, said: str):
    group = tmp_path / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text(said)
    (group / "memory.max").write_text("max\n")
    machine = read_machine(tmp_path)
    assert machine.quota_cores is None
    assert machine.memory_bytes > 123_456_789


def test_two_threads_of_one_core_are_one_physical_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for number in range(4):
        folder = tmp_path / f"devices/system/cpu/cpu{number}/topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n")
    machine = read_machine(tmp_path)
    assert (machine.cores, machine.physical_cores) == (4, 2)
