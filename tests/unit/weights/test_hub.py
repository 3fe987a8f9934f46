"""Pulling from the hub: the real library against a stand-in, with its faults."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from leadline.weights import hub as hub_module
from leadline.weights.hub import Hub, Reference, pull_from_hub, reference
from leadline.weights.pull import Progress
from leadline.weights.store import PullFailed, Store
from tests.scripted.hub import ScriptedHub

# Each starts a program of its own.
pytestmark = pytest.mark.slow

Gguf = Callable[..., bytes]
REPOSITORY = "northwind/Tiny-GGUF"
FILE = Reference(REPOSITORY, file="Tiny.Q4_0.gguf")
LARGE = 3 << 20


@pytest.fixture
def hub(gguf: Gguf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ScriptedHub]:
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with ScriptedHub({REPOSITORY: {"Tiny.Q4_0.gguf": gguf(LARGE)}}).served() as served:
        yield served


async def pull(
    store: Store,
    hub: ScriptedHub,
    wanted: Reference = FILE,
    name: str | None = None,
    told: list[Progress] | None = None,
) -> Path:
    def progress(now: Progress) -> None:
        if told is not None:
            told.append(now)

    return await pull_from_hub(store, Hub(hub.url), wanted, name, progress)


async def failure(store: Store, hub: ScriptedHub, wanted: Reference = FILE, name: str | None = None) -> str:
    before = store.list()
    with pytest.raises(PullFailed) as failed:
        await pull(store, hub, wanted, name)
    assert store.list() == before
    assert "huggingface" not in str(failed.value).lower()
    return str(failed.value)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hf:a/b/c.gguf", Reference("a/b", file="c.gguf")),
        ("hf:a/b/sub/c.GGUF", Reference("a/b", file="sub/c.GGUF")),
        ("hf:a/b", Reference("a/b")),
        ("a/b-GGUF", Reference("a/b-GGUF")),
        ("a/b:Q4_K_M", Reference("a/b", quantisation="Q4_K_M")),
        ("hf:a/b:q8_0", Reference("a/b", quantisation="q8_0")),
        ("a/b.gguf", None),
        ("a/b/c.gguf", None),
        ("./a.gguf", None),
        ("../a/b", None),
        ("smollm2-135m-instruct", None),
        ("hf:a", None),
        ("hf:a/b/c.safetensors", None),
        ("hf:-a/b", None),
    ],
)
def test_what_names_a_model_on_the_hub(text: str, meant: Reference | None):
    assert reference(text) == meant
    if meant is not None:
        assert reference(str(meant)) == meant


async def test_a_file_comes_whole_with_the_hubs_own_checksum(hub: ScriptedHub, store: Store, gguf: Gguf):
    told: list[Progress] = []

    path = await pull(store, hub, told=told)

    assert path == store.path("tiny.q4_0")
    assert path.read_bytes() == gguf(LARGE)
    assert store.list()[0].sha256 == hashlib.sha256(gguf(LARGE)).hexdigest()
    size = len(gguf(LARGE))
    assert (told[0], told[-1]) == (Progress("downloading", 0, 0), Progress("checking", size, size))
    assert {one.total_bytes for one in told[1:]} == {size}
    assert list(store.parts().iterdir()) == []


async def test_what_is_there_is_not_asked_for_again(hub: ScriptedHub, store: Store):
    path = await pull(store, hub)
    hub.asked.clear()

    assert await pull(store, hub) == path == store.resolve(str(FILE))
    assert hub.asked == []


async def test_a_download_that_is_cancelled_goes_on_where_it_was(hub: ScriptedHub, store: Store, gguf: Gguf):
    hub.stalls = [2 << 20]
    task = asyncio.create_task(pull(store, hub))
    await asyncio.to_thread(hub.stalled.wait, 30)
    async with asyncio.timeout(30):
        while sum(part.stat().st_size for part in store.parts().iterdir()) == 0:
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.list() == []
    [part] = store.parts().iterdir()
    there = part.stat().st_size
    hub.go_on.set()

    path = await pull(store, hub)

    assert path.read_bytes() == gguf(LARGE)
    assert hub.ranges() == [None, f"bytes={there}-"]


async def test_a_connection_that_is_cut_is_taken_up_again_by_itself(hub: ScriptedHub, store: Store, gguf: Gguf):
    hub.cuts = [1 << 20]

    assert (await pull(store, hub)).read_bytes() == gguf(LARGE)
    assert [one is None for one in hub.ranges()] == [True, False]


async def test_a_failure_after_a_cut_keeps_what_came(hub: ScriptedHub, store: Store, gguf: Gguf):
    hub.stalls = [1 << 20]
    task = asyncio.create_task(failure(store, hub))
    await asyncio.to_thread(hub.stalled.wait, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # Only now: nothing of the pull that was cut short may take what is meant for the next one.
    hub.cuts, hub.statuses = [0], {"content": 500}
    hub.files[REPOSITORY]["Tiny.Q4_0.gguf"] = gguf(LARGE)
    hub.go_on.set()
    assert "status 500" in await failure(store, hub)
    hub.cuts, hub.statuses = [], {}

    assert (await pull(store, hub)).read_bytes() == gguf(LARGE)


async def test_a_silent_hub_ends_the_child(hub: ScriptedHub, store: Store, monkeypatch: pytest.MonkeyPatch):
    hub.stalls = [1 << 20]
    monkeypatch.setattr(hub_module, "_STALL_SECONDS", 1.0)

    told = await failure(store, hub)

    assert "nothing came for" in told
    assert "the same command goes on" in told


async def test_another_file_than_the_hub_says_is_thrown_away(hub: ScriptedHub, store: Store):
    hub.digests["Tiny.Q4_0.gguf"] = "0" * 64

    assert "checksum differs" in await failure(store, hub)
    assert list(store.parts().iterdir()) == []


async def test_a_file_without_a_checksum_is_not_taken(hub: ScriptedHub, store: Store):
    hub.digests["Tiny.Q4_0.gguf"] = "d" * 40

    assert "no checksum" in await failure(store, hub)


@pytest.mark.parametrize(
    ("statuses", "told"),
    [
        ({"/api/": 401}, "no such repository, or it is private"),
        ({"/api/": 403}, "the hub refuses it"),
        ({"/api/": 404}, "no such repository"),
        ({"/api/": 429}, "asks to wait"),
        ({"/api/": 500}, "status 500"),
        ({"content": 500}, "status 500"),
        ({"content": 403}, "the hub refuses it"),
    ],
)
async def test_what_the_hub_answers_is_told_in_our_words(
    hub: ScriptedHub, store: Store, statuses: dict[str, int], told: str
):
    hub.statuses = statuses

    assert told in await failure(store, hub)


async def test_a_repository_that_is_not_there(hub: ScriptedHub, store: Store):
    assert "no such repository" in await failure(store, hub, Reference("northwind/none"))


async def test_a_wrong_name_is_told_with_the_names_that_there_are(hub: ScriptedHub, store: Store):
    for wanted in (Reference(REPOSITORY, file="tiny.gguf"), Reference(REPOSITORY, quantisation="Q8_0")):
        assert "It has: Tiny.Q4_0.gguf" in await failure(store, hub, wanted)


async def test_terms_that_were_not_agreed_to(hub: ScriptedHub, store: Store):
    hub.gated = True

    assert "consent to terms" in await failure(store, hub)


async def test_the_token_goes_to_the_hub_alone(hub: ScriptedHub, store: Store, monkeypatch: pytest.MonkeyPatch):
    hub.token = "hf_secret"
    assert "private" in await failure(store, hub)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert (await pull(store, hub)).is_file()
    tokens = {one.path.split("/")[1]: one.token for one in hub.asked[1:]}
    assert tokens == {"api": "hf_secret", "northwind": "hf_secret", "content": None}


async def test_a_hub_that_is_not_there(store: Store, hub: ScriptedHub):
    hub.url = "http://127.0.0.1:9"

    assert "could not be reached" in await failure(store, hub)


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        (["m.Q8_0.gguf", "m.Q4_K_M.gguf", "m.F16.gguf"], None, "m.q4_k_m"),
        (["m.Q8_0.gguf", "m.Q4_K_M.gguf"], "q8_0", "m.q8_0"),
        (["m-Q4_K_S.gguf", "m-Q4_0.gguf"], "Q4_0", "m-q4_0"),
        (["mmproj-m-F16.gguf", "odd.gguf"], None, "odd"),
    ],
)
async def test_a_quantisation_is_chosen(
    hub: ScriptedHub, store: Store, names: list[str], wanted: str | None, chosen: str
):
    hub.files[REPOSITORY] = dict.fromkeys(names, hub.files[REPOSITORY]["Tiny.Q4_0.gguf"])

    path = await pull(store, hub, Reference(REPOSITORY, quantisation=wanted))

    assert path.stem == chosen


async def test_a_split_model_comes_with_all_its_files(hub: ScriptedHub, store: Store, gguf: Gguf):
    names = [f"sub/Big-Q4_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    hub.files[REPOSITORY] = {name: gguf(seed=number) for number, name in enumerate(names)}

    path = await pull(store, hub, Reference(REPOSITORY, quantisation="Q4_0"))

    assert path == store.path("big-q4_0")
    assert [file.name for file in store.files(path)] == [f"big-q4_0-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    assert [file.read_bytes() for file in store.files(path)] == [gguf(seed=number) for number in (0, 1, 2)]
    [listed] = store.list()
    assert (listed.name, listed.size_bytes) == ("big-q4_0", 3 * len(gguf()))
    store.files(path)[2].unlink()
    assert store.path("big-q4_0") is None


async def test_a_split_model_with_a_missing_file_is_not_pulled(hub: ScriptedHub, store: Store, gguf: Gguf):
    hub.files[REPOSITORY] = {"Big-Q4_0-00001-of-00002.gguf": gguf()}

    assert "no such GGUF file" in await failure(store, hub, Reference(REPOSITORY, quantisation="Q4_0"))


async def test_other_weights_of_the_same_name_stay(hub: ScriptedHub, store: Store, gguf: Gguf):
    store.put("tiny.q4_0", [gguf(seed=7)])

    assert "--name" in await failure(store, hub)
    assert (await pull(store, hub, name="mine")).stem == "mine"


async def test_a_name_outside_the_alphabet_is_refused(hub: ScriptedHub, store: Store):
    assert "cannot be a name" in await failure(store, hub, name="../x")


async def test_a_folder_that_cannot_be_is_told(hub: ScriptedHub, tmp_path: Path):
    (tmp_path / "models").write_text("a file")

    with pytest.raises(PullFailed, match="the disk refused it"):
        await pull(Store(tmp_path / "models"), hub)


async def test_a_full_disk_is_told_before_a_byte_comes(hub: ScriptedHub, store: Store, gguf: Gguf):
    class Huge(bytes):
        def __len__(self) -> int:
            return 10**18

    hub.files[REPOSITORY]["Tiny.Q4_0.gguf"] = Huge(gguf())

    assert "disk is too full" in await failure(store, hub)
    assert hub.ranges() == []


async def test_a_model_that_sees_comes_with_its_projector(hub: ScriptedHub, store: Store, gguf: Gguf):
    files = {"Tiny.Q4_0.gguf": gguf(seed=1), "mmproj-Tiny-F32.gguf": gguf(seed=2), "mmproj-Tiny-F16.gguf": gguf(seed=3)}
    hub.files[REPOSITORY] = files
    told: list[Progress] = []

    path = await pull(store, hub, Reference(REPOSITORY), told=told)

    projector = store.projector(path)
    assert projector is not None
    assert projector.read_bytes() == files["mmproj-Tiny-F16.gguf"]
    assert store.digest_of(projector) == hashlib.sha256(files["mmproj-Tiny-F16.gguf"]).hexdigest()
    assert told[-1].total_bytes == len(files["Tiny.Q4_0.gguf"]) + len(files["mmproj-Tiny-F16.gguf"])
    assert [one.name for one in store.list()] == ["tiny.q4_0"]
    assert store.list()[0].size_bytes == len(files["Tiny.Q4_0.gguf"])
    store.remove("tiny.q4_0")
    assert not projector.exists()


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a/M-Q8_0.gguf", "a/mmproj.gguf", "mmproj.gguf"], "a/mmproj.gguf"),
        (["a/M-Q8_0.gguf", "b/mmproj.gguf", "mmproj.gguf"], "mmproj.gguf"),
        (["a/M-Q8_0.gguf", "b/mmproj.gguf"], None),
        (["M-Q8_0.gguf", "M-mmproj-Q8_0.gguf", "M-mmproj-BF16.gguf"], "M-mmproj-BF16.gguf"),
        (["M-Q8_0.gguf", "mmproj-odd.gguf"], "mmproj-odd.gguf"),
        (["M-Q8_0.gguf"], None),
        (["mmproj-F32.gguf", "mmproj-F16.gguf"], None),
    ],
)
async def test_a_projector_is_chosen(hub: ScriptedHub, store: Store, gguf: Gguf, names: list[str], chosen: str | None):
    """For the first of these files, beside which the others are."""
    hub.files[REPOSITORY] = {name: gguf(seed=number) for number, name in enumerate(names)}

    path = await pull(store, hub, Reference(REPOSITORY, file=names[0]))

    projector = store.projector(path)
    assert (projector and projector.read_bytes()) == (chosen and hub.files[REPOSITORY][chosen])


async def test_a_projector_that_is_not_the_hubs_leaves_nothing(hub: ScriptedHub, store: Store, gguf: Gguf):
    hub.files[REPOSITORY]["mmproj-F16.gguf"] = gguf(seed=2)
    hub.digests["mmproj-F16.gguf"] = "0" * 64

    assert "checksum differs" in await failure(store, hub)
    assert list(store.parts().iterdir()) == []
    assert [file for file in store.folder.iterdir() if file.is_file()] == []


async def test_a_split_model_has_one_projector(hub: ScriptedHub, store: Store, gguf: Gguf):
    names = [f"sub/Big-Q4_0-0000{number}-of-00002.gguf" for number in (1, 2)]
    hub.files[REPOSITORY] = {name: gguf(seed=number) for number, name in enumerate([*names, "sub/mmproj-F16.gguf"])}

    path = await pull(store, hub, Reference(REPOSITORY, quantisation="Q4_0"))

    projector = store.projector(path)
    assert projector is not None
    assert projector.name == "big-q4_0.mmproj"
    assert len(store.files(path)) == 2
