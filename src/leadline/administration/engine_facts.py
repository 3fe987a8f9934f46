"""What is to be known of each engine: for the pages of administrators, `leadline status` and `/metrics` alike."""

from dataclasses import dataclass

from leadline.administration.instance import Instance
from leadline.administration.models import sections
from leadline.config import EngineSection
from leadline.engines.embedded import machine
from leadline.engines.embedded.chosen import ChosenEngine
from leadline.engines.embedded.engine import EmbeddedEngine
from leadline.engines.embedded.machine import context_tokens, parallel_requests, this_machine
from leadline.engines.engine import NOT_STARTED, Engine, EngineStatus, Loadable

_KINDS = {
    "auto": "embedded, the engine chosen by the model",
    "llamacpp": "llama.cpp, embedded",
    "openvino": "OpenVINO GenAI, embedded",
    "vllm": "vLLM",
    "openai": "OpenAI-compatible server",
}
# What the configuration says of an engine beside its name and kind, in words. Its keys are not among them.
_CHOSEN = {
    "url": "URL",
    "discover": "Found by",
    "weights": "Weights",
    "projector": "Projector",
    "context_tokens": "Context tokens",
    "parallel_requests": "At once",
    "threads": "Threads",
    "batch_tokens": "Tokens in a piece of a prompt",
}


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """`running` and the tokens are sums over its `models`. `settings` are those that somebody chose. `contexts` are
    tokens by model, where known. `choices` are how an embedded one runs, each with its reason."""

    name: str
    kind: str
    status: EngineStatus
    loadable: bool
    # Its servers that the configuration names one by one, which come and go here; 0: none do.
    listed_workers: int
    models: tuple[str, ...]
    running: int
    tokens_per_second: float
    tokens_by_second: tuple[int, ...]
    contexts: tuple[int, ...]
    settings: tuple[tuple[str, str], ...]
    choices: tuple[str, ...] = ()

    @property
    def claimed_percent(self) -> int | None:
        """What it claims of the memory that all embedded engines share."""
        if not self.status.limit_bytes or self.status.claimed_bytes is None:
            return None
        return min(100, self.status.claimed_bytes * 100 // self.status.limit_bytes)


def engine_facts(instance: Instance) -> list[EngineFacts]:
    """Of each engine that the configuration names, or the default one."""
    engine_sections, model_sections = sections(instance.config)
    activity = instance.activity
    found = []
    for section in engine_sections:
        models = tuple(one.name for one in model_sections if one.engine == section.name)
        upstream = [one.upstream_model or one.name for one in model_sections if one.engine == section.name]
        engine = instance.engines.get(section.name)
        by_second = [activity.tokens_by_second(name) for name in models] if activity is not None else []
        contexts = {engine.facts(name).context_tokens for name in upstream} if engine is not None else set()
        found.append(
            EngineFacts(
                section.name,
                _KINDS[section.kind],
                NOT_STARTED if engine is None else engine.status,
                isinstance(engine, Loadable),
                len(section.urls),
                models,
                sum(map(activity.running, models)) if activity is not None else 0,
                sum(map(activity.tokens_per_second, models)) if activity is not None else 0.0,
                tuple(map(sum, zip(*by_second, strict=True))),
                tuple(sorted(tokens for tokens in contexts if tokens is not None)),
                _settings(section),
                _choices(section, engine),
            )
        )
    return found


def _choices(section: EngineSection, engine: Engine | None) -> tuple[str, ...]:
    """What the machine and the weights decided, or a setting instead of them."""
    if not section.embedded:
        return ()
    threads, requests = machine.threads(this_machine(), section.threads), parallel_requests(section.parallel_requests)
    context = context_tokens(section.context_tokens)
    count = "1 thread" if threads.value == 1 else f"{threads.value} threads"
    return (
        f"{count}, {threads.why}",
        f"{requests.value} requests at once, {requests.why}",
        f"a context of at most {context.value:,} tokens, {context.why}",
        *(engine.choices if isinstance(engine, EmbeddedEngine | ChosenEngine) else ()),
    )


def _settings(section: EngineSection) -> tuple[tuple[str, str], ...]:
    chosen = [(label, str(value)) for name, label in _CHOSEN.items() if (value := getattr(section, name))]
    if section.embedded:
        chosen.append(("Loads", "when the server starts" if section.load == "start" else "at its first request"))
        after = section.unload_after_seconds
        chosen.append(("Unloads", f"after {after:,} s without a request" if after else "only for another engine"))
    return tuple(chosen)
