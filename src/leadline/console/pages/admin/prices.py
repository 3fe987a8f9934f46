"""What each model costs: now, before, and from a date on. What was charged keeps the price of its time."""

from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from urllib.parse import quote

from starlette.responses import Response

from leadline.administration.commands.models import priced
from leadline.catalog.catalog import Model
from leadline.catalog.price_book import PriceChange
from leadline.catalog.prices import Prices, Tier
from leadline.chat.events import Usage
from leadline.clock import rfc3339
from leadline.console.csv_file import Cell, csv_file
from leadline.console.page import Page
from leadline.console.visit import Visit
from leadline.errors import InvalidRequest, NotFound
from leadline.money import TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION

PATH = "/admin/prices"
KINDS = {
    "input": "Input",
    "cached_input": "Cached input",
    "image": "Images",
    "output": "Output",
    "reasoning": "Reasoning",
}
LONG = {f"{kind}_long_context": label for kind, label in KINDS.items()}
_THRESHOLD = "long_context_threshold"
COLUMNS = (
    *("model", "effective_from", "recorded_at", "source"),
    *(f"{kind}_usd_per_million" for kind in KINDS),
    *(_THRESHOLD, *(f"{kind}_usd_per_million" for kind in LONG)),
)
# What the preview asks the price of: a prompt, of which a part was cached, and its answer.
EXAMPLE = Usage(prompt_tokens=10_000, cached_tokens=4_000, output_tokens=1_000, reasoning_tokens=500)


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of token in the preview: how many, and what each costs before and after, in ticks."""

    label: str
    tokens: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What the example costs before and after, line by line. `at` is from when on, in microseconds; None: at once."""

    at: int | None
    lines: tuple[Line, ...]
    before_ticks: int
    after_ticks: int


async def show(visit: Visit) -> Response:
    models = visit.pipeline.catalog.models
    now = visit.instance.prices.clock()
    coming = {
        model.name: [one for one in visit.instance.prices.history(model.name) if one.effective_from > now]
        for model in models
    }
    return visit.render("admin/prices.html", models=models, coming=coming, kinds=KINDS, usd=usd, csv=f"{PATH}.csv")


async def download(visit: Visit) -> Response:
    return csv_file("prices.csv", COLUMNS, _cells(visit))


async def show_one(visit: Visit) -> Response:
    return _one(visit, _found(visit))


async def change(visit: Visit) -> Response:
    """A preview, or the new prices where the form says `save`."""
    model, form = _found(visit), visit.form
    present = _typed(model.prices)
    changes = {name: form[name].removeprefix("$") for name in present if form[name] and form[name] != present[name]}
    try:
        if not changes:
            raise InvalidRequest("Nothing is changed: write another price.", "input")
        at, prices = priced(visit.instance, model.name, changes, form["from"] or None)
        if at is not None and at < visit.instance.prices.clock():
            raise InvalidRequest("Prices cannot be changed for the past.", "from")
    except InvalidRequest as error:
        return _one(visit, model, wrong={error.param or "input": str(error)})
    if form["do"] != "save":
        return _one(
            visit, model, preview=_preview(visit.instance.prices.at(model.name, at) if at else model.prices, prices, at)
        )
    await visit.instance.prices.record(model.name, prices, at, "command", visit.actor)
    since = "from now on" if at is None else f"from {rfc3339(at)[:16].replace('T', ' ')} UTC on"
    return visit.redirect(_path(model.name), f"{model.name} has new prices {since}. What was charged stays.")


PAGES = (
    Page(PATH, "admin-prices", "admin", show),
    Page(f"{PATH}.csv", "admin-prices", "admin", download),
    Page(f"{PATH}/{{model:path}}", "admin-prices", "admin", show_one, change),
)


def usd(ticks: int | None) -> str:
    """A price per token as dollars per million, with as many decimals as it has; empty where there is none."""
    if ticks is None:
        return ""
    whole, rest = divmod(ticks, TICKS_PER_TOKEN_AT_ONE_USD_PER_MILLION)
    return f"{whole}.{rest:04d}".rstrip("0").ljust(len(str(whole)) + 3, "0")


def _one(visit: Visit, model: Model, wrong: dict[str, str] | None = None, preview: Preview | None = None) -> Response:
    present = _typed(model.prices)
    typed = {name: visit.form[name] or text for name, text in present.items()}
    history = sorted(visit.instance.prices.history(model.name), reverse=True)
    return visit.render(
        "admin/price.html",
        400 if wrong else 200,
        model=model,
        now=visit.instance.prices.clock(),
        in_force=_in_force(history, visit.instance.prices.clock()),
        history=history,
        kinds=KINDS,
        long=LONG,
        typed=typed | {"from": visit.form["from"]},
        wrong=wrong or {},
        preview=preview,
        long_open=bool(typed[_THRESHOLD]) or any(name in (wrong or {}) for name in (*LONG, _THRESHOLD)),
        usd=usd,
        here=_path(model.name),
    )


def _in_force(history: list[PriceChange], now: int) -> PriceChange | None:
    return next((one for one in history if one.effective_from <= now), None)


def _preview(before: Prices, after: Prices, at: int | None) -> Preview:
    old, new = (_tier(prices) for prices in (before, after))
    counts = {
        "input": EXAMPLE.prompt_tokens - EXAMPLE.cached_tokens,
        "cached_input": EXAMPLE.cached_tokens,
        "output": EXAMPLE.output_tokens,
        "reasoning": EXAMPLE.reasoning_tokens,
    }
    lines = tuple(Line(KINDS[kind], count, getattr(old, kind), getattr(new, kind)) for kind, count in counts.items())
    return Preview(at, lines, before.cost(EXAMPLE), after.cost(EXAMPLE))


def _tier(prices: Prices) -> Tier:
    """What the example's tokens cost each."""
    return prices.long if 0 < prices.long_context_threshold <= EXAMPLE.prompt_tokens else prices.short


def _typed(prices: Prices) -> dict[str, str]:
    """The prices as they stand in the form. What costs as another kind is empty."""
    texts = {name: usd(ticks) for name, ticks in asdict(prices).items() if name != _THRESHOLD}
    texts |= {name: text if getattr(prices, name) else "" for name, text in texts.items() if name in LONG}
    return texts | {_THRESHOLD: str(prices.long_context_threshold or "")}


def _found(visit: Visit) -> Model:
    """By its own name: an alias has no price of its own."""
    for model in visit.pipeline.catalog.models:
        if model.name == visit.request.path_params["model"]:
            return model
    raise NotFound("There is no such model.")


async def _cells(visit: Visit) -> AsyncIterator[list[Cell]]:
    for model in visit.pipeline.catalog.models:
        for one in visit.instance.prices.history(model.name):
            fields = asdict(one.prices)
            yield [
                *(model.name, rfc3339(one.effective_from), rfc3339(one.recorded_at), one.source),
                *(usd(fields[kind]) for kind in KINDS),
                *(fields[_THRESHOLD], *(usd(fields[kind]) for kind in LONG)),
            ]


def _path(name: str) -> str:
    return f"{PATH}/{quote(name)}"
