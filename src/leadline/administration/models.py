"""From the configuration to engines and models: what runs here, and under which names."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from leadline.catalog.catalog import Catalog, build_catalog
from leadline.catalog.price_book import PriceBook
from leadline.config import Config, ConfigurationError, EngineSection, ModelSection, PriceSection, load
from leadline.engines.embedded import machine
from leadline.engines.embedded.chosen import ChosenEngine
from leadline.engines.embedded.engine import EmbeddedEngine, Provide
from leadline.engines.embedded.loader import Policy
from leadline.engines.embedded.machine import this_machine
from leadline.engines.embedded.memory import Memory
from leadline.engines.embedded.model import Build, Projector, Settings, Weights
from leadline.engines.engine import Engine
from leadline.engines.format.template import ChatTemplate, TemplateUnusable, Vocabulary
from leadline.engines.llamacpp.engine import LlamaCppEngine
from leadline.engines.llamacpp.model import memory_bytes
from leadline.engines.openvino import model as openvino
from leadline.engines.openvino.engine import OpenVinoEngine
from leadline.engines.pool.engine import Members, PoolEngine
from leadline.engines.upstream.engine import UpstreamEngine
from leadline.errors import InvalidRequest
from leadline.weights.gguf import Description, describe
from leadline.weights.hub import Hub, pull_from_hub, reference
from leadline.weights.known import DEFAULT, KNOWN
from leadline.weights.pull import Progress, adopt, pull
from leadline.weights.requantise import SLOW, most_bytes, requantised
from leadline.weights.store import Store, WeightsMissing, WeightsUnusable, name_from

# What runs where the file names no engine.
DEFAULT_ENGINE = EngineSection(name="default", kind="auto", weights=DEFAULT.name)
DEFAULT_MODEL = ModelSection(
    name=DEFAULT.name,
    engine=DEFAULT_ENGINE.name,
    default_max_output_tokens=512,
    prices=PriceSection(input=Decimal("0.10"), cached_input=Decimal("0.025"), output=Decimal("0.40")),
)
# How long a request waits for its model where models are loaded on demand.
_LOAD_WAIT_SECONDS = 60
# Projectors of LFM2's family cut larger images into tiles, and name each by a token. Where the model has no such token
# an image stays in one piece, of at most so many tokens.
_TILE = "<|img_row_1_col_1|>"
_UNTILED_IMAGE_TOKENS = 1024

_log = logging.getLogger("leadline.models")

Watch = Callable[[str, Progress], None]
# Makes an engine, not yet started, of its section; the second argument are all sections beside which it runs.
Make = Callable[[EngineSection, Sequence[EngineSection]], Engine]


def sections(config: Config) -> tuple[tuple[EngineSection, ...], tuple[ModelSection, ...]]:
    """The engines and models to run: the file's, or the default ones."""
    if config.engines and not config.models:
        raise ConfigurationError("There are [[engines]] but no [[models]]: name at least one model.")
    engines = config.engines or (DEFAULT_ENGINE,)
    models = config.models or (DEFAULT_MODEL,)
    for model in models:
        if model.engine not in {engine.name for engine in engines}:
            raise ConfigurationError(f"model {model.name!r} names the engine {model.engine!r}, which is not there.")
    embedding = {engine.name for engine in engines if engine.weights in KNOWN and KNOWN[engine.weights].embeds}
    return engines, tuple(_embedding(model) if model.engine in embedding else model for model in models)


def _embedding(model: ModelSection) -> ModelSection:
    """Known not to chat before its weights are here."""
    return model if model.capabilities is not None else msgspec.structs.replace(model, capabilities=("embeddings",))


def build(
    config: Config,
    store: Store,
    created_at: int,
    watch: Watch = lambda *_: None,
    book: PriceBook | None = None,
) -> tuple[list[Engine], Catalog]:
    """Engines, not yet started, and the catalog of their models. `watch` sees every download and load. Without a
    `book` the prices are the file's."""
    engine_sections, model_sections = sections(config)
    make = engine_maker(config, store, watch)
    engines = {section.name: make(section, engine_sections) for section in engine_sections}
    return list(engines.values()), build_catalog(model_sections, engines, created_at, book)


def engine_maker(config: Config, store: Store, watch: Watch = lambda *_: None) -> Make:
    """What makes the engines of an instance, which share one memory."""
    hub = Hub(config.hub.endpoint)
    memory = Memory(machine.memory_bytes(this_machine(), config.embedded.memory_megabytes).value)
    return lambda section, beside: _engine(section, _Shared(store, hub, memory, watch, shares_cores=_crowded(beside)))


def share_cores(engines: Iterable[Engine], beside: Sequence[EngineSection]) -> None:
    """Tell the embedded engines of those that run beside them."""
    for engine in engines:
        if isinstance(engine, EmbeddedEngine | ChosenEngine):
            engine.share_cores(shares=_crowded(beside))


def _crowded(engines: Sequence[EngineSection]) -> bool:
    """Whether the embedded ones have more threads than there are cores."""
    wanted = sum(machine.threads(this_machine(), section.threads).value for section in engines if section.embedded)
    return wanted > machine.threads(this_machine(), 0).value


@dataclass(frozen=True, slots=True)
class _Shared:
    """What all engines of an instance have in common. `shares_cores`: the embedded ones have more threads than there
    are cores."""

    store: Store
    hub: Hub
    memory: Memory
    watch: Watch
    shares_cores: bool


def _engine(section: EngineSection, shared: _Shared) -> Engine:
    if not section.embedded:
        return _remote(section)
    settings = Settings(
        context_tokens=machine.context_tokens(section.context_tokens).value,
        parallel_requests=machine.parallel_requests(section.parallel_requests).value,
        threads=machine.threads(this_machine(), section.threads).value,
        shares_cores=shared.shares_cores,
        batch_tokens=section.batch_tokens,
        cache_type=None if section.cache_type == "auto" else section.cache_type,
    )
    wanted = section.weights or DEFAULT.name

    def loading(done_bytes: int, total_bytes: int) -> None:
        shared.watch(wanted, Progress("loading", done_bytes, total_bytes))

    provide = _provider(wanted, section.projector, shared)
    asked = (section.name, provide, settings, loading, _policy(section), shared.memory)
    match section.kind:
        case "openvino" if not openvino.installed():
            raise ConfigurationError(
                f"engine {section.name!r} is of the kind openvino, which is not installed: pip install "
                "'leadline[openvino]'."
            )
        case "openvino":
            able = (section.name, _able(provide), *asked[2:])
            return OpenVinoEngine(*able, reuses=section.prefix_reuse)
        case "auto":
            before = LlamaCppEngine(*asked)
            return ChosenEngine(section.name, before, lambda weights: _chosen(weights, before, section, shared))
        case _:
            return LlamaCppEngine(section.name, _faster(provide, settings, section, shared), *asked[2:])


def _remote(section: EngineSection) -> Engine:
    """One server is asked as it is. Several, or one that runs no more than so many requests, are a pool."""
    members = members_of(section)
    if len(section.urls) or members.by_name or members.most:
        return PoolEngine(section.name, section.kind, members, _api_key(section))
    return UpstreamEngine(section.name, section.kind, members.urls[0], _api_key(section))


def members_of(section: EngineSection) -> Members:
    """The servers of a remote engine."""
    urls = section.urls or ((section.url,) if section.url is not None else ())
    return Members(tuple(url.rstrip("/") for url in urls), section.discover == "dns", section.parallel_requests)


def _able(provide: Provide) -> Provide:
    """WeightsUnusable where OpenVINO GenAI cannot run them."""

    async def provide_able(tell: Callable[[str], None]) -> Weights:
        weights = await provide(tell)
        if why := openvino.why_not(weights):
            raise WeightsUnusable(f"OpenVINO GenAI cannot run {weights.path.name}: it {why}. Use the kind llamacpp.")
        return weights

    return provide_able


def _faster(provide: Provide, settings: Settings, section: EngineSection, shared: _Shared) -> Provide:
    """With types of tensors that llama.cpp computes fast with, unless the setting forbids it or memory is too small.
    Vectors stay as they were made before."""

    async def provide_faster(tell: Callable[[str], None]) -> Weights:
        weights = await provide(tell)
        slow = {kind for _, kind in weights.build.tensors} & SLOW.keys()
        if section.requantise == "off" or weights.embeds or not slow:
            return weights
        larger = replace(weights, size_bytes=most_bytes(weights.size_bytes))
        if not shared.memory.fits(memory_bytes(settings.within(larger), larger)):
            _log.info("weights are not re-quantised: memory is too small", extra={"weights": weights.path.name})
            return weights

        def progress(now: Progress) -> None:
            tell(_sentence(weights.path.name, now))
            shared.watch(section.weights or DEFAULT.name, now)

        path = await requantised(shared.store, weights.path, progress)
        if path is None:
            return weights
        return replace(weights, path=path, size_bytes=shared.store.size_bytes(path), requantised="Q8_0")

    return provide_faster


def _chosen(weights: Weights, llamacpp: LlamaCppEngine, section: EngineSection, shared: _Shared) -> EmbeddedEngine:
    """The engine that runs these weights best: OpenVINO GenAI where it is here and can, else llama.cpp."""
    why = openvino.why_not(weights) if openvino.installed() else "the package openvino-genai is not installed"
    _log.info("engine chosen", extra={"engine": llamacpp.name, "kind": "llamacpp" if why else "openvino", "why": why})

    async def provide(_tell: Callable[[str], None]) -> Weights:
        return weights

    one = llamacpp
    asked = (one.settings, one.loading, one.policy, one.memory)
    if why:
        return LlamaCppEngine(one.name, _faster(provide, one.settings, section, shared), *asked)
    return OpenVinoEngine(one.name, provide, *asked, reuses=section.prefix_reuse)


def _policy(section: EngineSection) -> Policy:
    at_start, wait_seconds = section.load == "start", section.load_wait_seconds
    if wait_seconds is None:
        wait_seconds = 0 if at_start else _LOAD_WAIT_SECONDS
    return Policy(at_start, wait_seconds, section.unload_after_seconds)


def _provider(wanted: str, projector: str | None, shared: _Shared) -> Provide:
    store = shared.store

    async def provide(tell: Callable[[str], None]) -> Weights:
        def progress(now: Progress) -> None:
            tell(_sentence(wanted, now))
            shared.watch(wanted, now)

        on_hub = reference(wanted)
        if store.path(wanted) is None and wanted in KNOWN:
            path = await pull(store, KNOWN[wanted], progress)
        elif on_hub is not None:
            path = await pull_from_hub(store, shared.hub, on_hub, None, progress)
        else:
            path = await asyncio.to_thread(store.resolve, wanted)
        digest = await asyncio.to_thread(store.digest, path)
        description = await asyncio.to_thread(describe, path)
        template, usable = _template(description)
        if not usable:
            _log.warning("the chat template cannot be used", extra={"weights": path.name})
        return Weights(
            *(path, digest, description.context_tokens, template),
            *(store.size_bytes(path), description.make.cache_bytes),
            embeds=description.make.embeds,
            projector=await asyncio.to_thread(_projector, store, path, projector, description),
            build=Build(description.make.architecture, description.make.tokenizer, description.make.tensors),
        )

    return provide


def _projector(store: Store, path: Path, wanted: str | None, model: Description) -> Projector | None:
    """The projector of the `model` in `path`. WeightsMissing or WeightsUnusable."""
    file = projector_file(store, path, wanted)
    if file is None:
        return None
    if not file.is_file():
        raise WeightsMissing(f"There is no projector {wanted!r}. Correct its path.")
    make = describe(file).make
    if make.architecture != "clip":
        raise WeightsUnusable(f"{file.name} is no projector. Its name often begins with mmproj.")
    in_one = make.projector == "lfm2" and _TILE not in model.special_tokens
    return Projector(file, store.digest_of(file), file.stat().st_size, _UNTILED_IMAGE_TOKENS if in_one else 0)


def projector_file(store: Store, path: Path, wanted: str | None) -> Path | None:
    """What makes the model in `path` see: the file that is `wanted`, else what was pulled with the model."""
    return Path(wanted).absolute() if wanted is not None else store.projector(path)


def _template(description: Description) -> tuple[ChatTemplate, bool]:
    """The file's own chat template, or a plain one where there is none; False where it has one that cannot be used."""
    words = Vocabulary(
        *(description.bos, description.eos, description.adds_bos, description.special_tokens),
        tokens=description.vocabulary_tokens,
    )
    try:
        return ChatTemplate(description.chat_template, words), True
    except TemplateUnusable:
        return ChatTemplate(None, words), False


def _sentence(name: str, now: Progress) -> str:
    if not now.total_bytes:
        return f"{now.stage} {name}"
    return f"{now.stage} {name}, {now.done_bytes / 1e6:.0f} of {now.total_bytes / 1e6:.0f} MB"


def _api_key(section: EngineSection) -> str | None:
    if section.api_key_env is None:
        return section.api_key
    key = os.environ.get(section.api_key_env)
    if not key:
        raise ConfigurationError(
            f"engine {section.name!r} takes its key from the environment variable {section.api_key_env}, "
            "which is not set."
        )
    return key


async def pull_weights(
    data: Path, wanted: str, watch: Watch, *, name: str | None = None, link: bool = False
) -> dict[str, Any]:
    """Bring weights into the instance: known ones by name, those of a hub, or a GGUF file. What is there now."""
    store, hub = Store(data / "models"), Hub(load(data / "leadline.toml").hub.endpoint)
    on_hub = reference(wanted)

    def progress(now: Progress) -> None:
        watch(wanted, now)

    if wanted in KNOWN:
        path = await pull(store, KNOWN[wanted], progress)
    elif on_hub is not None:
        path = await pull_from_hub(store, hub, on_hub, name, progress)
    elif wanted.lower().endswith(".gguf"):
        path = await adopt(store, Path(wanted), name, progress, link=link)
    else:
        raise InvalidRequest(
            f"No known model is named {wanted!r}. Known: {', '.join(KNOWN)}; or give a .gguf file, or one of a hub as "
            "hf:OWNER/REPOSITORY/FILE.gguf."
        )
    return weights_facts(store, name_from(path), path)


def weights_facts(store: Store, name: str, path: Path, projector: str | None = None) -> dict[str, Any]:
    """What a model's file says of it, and which projector makes it see. WeightsUnusable where it is damaged."""
    description = describe(path)
    sees = projector_file(store, path, projector)
    make, (template, usable) = description.make, _template(description)
    return {
        "name": name,
        "path": str(path),
        "size_bytes": store.size_bytes(path),
        "sha256": store.digest(path),
        "title": make.name,
        "architecture": make.architecture,
        "parameters": make.parameters or None,
        "quantisation": make.quantisation,
        "context_tokens": description.context_tokens,
        "embeds": make.embeds,
        "pooling": make.pooling,
        "chat_template": description.chat_template is not None and usable,
        "tool_calls": template.calls.name,
        "thinking": template.thinking is not None,
        "token_cache_bytes": make.cache_bytes,
        "projector": None if sees is None else str(sees),
    }
