"""Models as pages show them: what each can do, whether it answers now, and what it costs."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from urllib.parse import quote

from leadline.catalog.catalog import Model
from leadline.catalog.prices import Prices, Tier
from leadline.console.formats import day
from leadline.console.snippets import Ask, Snippet, asking, snippets
from leadline.console.visit import Visit
from leadline.engines.engine import EngineStatus
from leadline.serving.models import ModelCard, card_of

# In the order in which they are shown, as people call them.
ABILITIES = {
    "chat": "Chat",
    "vision": "Sees images",
    "tools": "Tools",
    "json": "JSON",
    "reasoning": "Reasoning",
    "logprobs": "Log probabilities",
    "completions": "Completions",
    "embeddings": "Embeddings",
}
# In the order of the fields of a Tier.
TOKENS = ("Input", "Cached input", "Images", "Output", "Reasoning")


@dataclass(frozen=True, slots=True)
class ModelState:
    """In a word, what a tag with it looks like, and a sentence."""

    word: str
    kind: str
    detail: str


@dataclass(frozen=True, slots=True)
class PriceColumn:
    """What tokens cost from some time on, or from some length of the prompt on; the ticks are those of TOKENS."""

    heading: str
    ticks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ModelRow:
    """`try_path` is where to try it; empty where it does not chat, or where the visitor may not."""

    card: ModelCard
    path: str
    state: ModelState
    abilities: Sequence[str]
    try_path: str
    free: bool
    changes_at: int | None


def model_row(visit: Visit, model: Model) -> ModelRow:
    now = visit.instance.keys.clock()
    card, to_come = card_of(model, now), _to_come(visit, model, now)
    chats = "chat" in card.capabilities and visit.may("use")
    return ModelRow(
        card,
        f"/models/{quote(model.name, safe='')}",
        state_of(model.engine.status),
        [word for name, word in ABILITIES.items() if name in card.capabilities],
        f"/playground?model={quote(model.name, safe='')}" if chats else "",
        model.prices_at(now).is_free,
        to_come[0][0] if to_come else None,
    )


def state_of(status: EngineStatus) -> ModelState:
    """As people call what an engine does."""
    match status.state:
        case "loaded" | None:
            word, kind = ("ready", "good") if status.ready else ("unavailable", "bad")
        case "unloaded":
            word, kind = "asleep", ""
        case "loading":
            word, kind = "loading" if status.loaded_percent is None else f"loading, {status.loaded_percent}%", "warn"
        case "failed":
            word, kind = "failed", "bad"
        case "unloading" | "restarting":
            word, kind = status.state, "warn"
    detail = status.detail[:1].upper() + status.detail[1:]
    if status.state == "unloaded" and status.ready:
        detail = "It loads with the next request."
    return ModelState(word, kind, detail)


def price_columns(visit: Visit, model: Model) -> list[PriceColumn]:
    """What it costs now, and what it will cost."""
    now = visit.instance.keys.clock()
    columns = _columns("Now", model.prices_at(now))
    for effective_from, prices in _to_come(visit, model, now):
        columns += _columns(f"From {day(effective_from).striptags()}", prices)
    return columns


def programs_for(visit: Visit, model: Model) -> list[Snippet]:
    """How to ask it."""
    if "chat" in model.capabilities:
        return snippets(Ask(model.name), visit.host)
    return asking(model.name, "embeddings" if "embeddings" in model.capabilities else "completions", visit.host)


def _columns(heading: str, prices: Prices) -> list[PriceColumn]:
    columns = [PriceColumn(heading, _ticks(prices.short))]
    if prices.long_context_threshold:
        prompt = f"{heading}, prompts of {prices.long_context_threshold:,} tokens or more"
        columns.append(PriceColumn(prompt, _ticks(prices.long)))
    return columns


def _ticks(tier: Tier) -> tuple[int, ...]:
    return astuple(tier)


def _to_come(visit: Visit, model: Model, now: int) -> list[tuple[int, Prices]]:
    """Of several changes with one date the one that counts."""
    history = visit.instance.prices.history(model.name)
    return sorted({one.effective_from: one.prices for one in history if one.effective_from > now}.items())
