"""The playground: somebody talks to a model, as a program would. What was said stays in his browser."""

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.responses import JSONResponse, Response

from leadline.catalog.catalog import Model
from leadline.console.formats import usd2
from leadline.console.page import Page
from leadline.console.playground.refusals import refusal_of, refuse
from leadline.console.playground.stream import AnswerStream, content_of, figures, speed
from leadline.console.playground.wire import Conversation
from leadline.console.snippets import Ask, snippets
from leadline.console.visit import Visit
from leadline.errors import ClientGone, InvalidRequest, LeadlineError, NotFound
from leadline.ledger.request_log import RequestLog
from leadline.money import show_usd
from leadline.serving.generation import Call, Generation
from leadline.serving.models import card_of
from leadline.serving.pipeline import Caller
from leadline.web.exchange import Exchange, Message
from leadline.web.strict_json import decode

# Such as the limits of bodies, which hold pictures in base64.
LARGEST_PICTURE_BYTES = 20 * 1024 * 1024
_SMALL_BODY_BYTES = 4 * 1024 * 1024
_TOKENS_AT_FIRST = 1024
_TOKENS_PER_MILLION = 1_000_000
_STARTERS = (
    ("Explain", "Explain how tides work to somebody who sees the sea for the first time."),
    ("Write", "Write a short, kind answer to a customer whose parcel is three days late."),
    ("Extract", "Give me name, city and date as JSON: “Mara Lindqvist will be in Bergen on 4 March.”"),
)

_Wire = TypeVar("_Wire")


class _Written(msgspec.Struct):
    text: str
    json: bool = False


@dataclass(frozen=True, slots=True)
class ChatModel:
    """A model that chats, as its settings need it. `hint` says what it is and costs."""

    name: str
    sees: bool
    writes_json: bool
    max_tokens: int
    hint: str


async def show_playground(visit: Visit) -> Response:
    models = [_chat_model(model, visit) for model in visit.pipeline.catalog.models if "chat" in model.capabilities]
    chosen = visit.query("model")
    model = next((one for one in models if one.name == chosen), models[0] if models else None)
    return visit.render(
        "playground.html",
        models=models,
        model=model,
        starters=_STARTERS,
        known=msgspec.to_builtins(
            {
                "models": models,
                "owner": f"{visit.user.id} {visit.organisation_id}",
                "largest_picture_bytes": LARGEST_PICTURE_BYTES,
            }
        ),
        programs=[(one.name, one.code) for one in snippets(Ask(visit.model), visit.host)],
    )


async def answer(visit: Visit) -> Response:
    """Runs what was asked by the path that every request takes, as the visitor."""
    exchange = Exchange(visit.request.scope, visit.request.receive, _nothing_yet)
    try:
        asked = decode(await exchange.json_body(), Conversation)
        await visit.refuse_if_gone("use")
        generation = await _admitted(visit, exchange, asked)
    except ClientGone:
        raise
    except Exception as error:
        return refuse(exchange.told(error), visit, str(exchange.request_id))
    return AnswerStream(
        generation,
        lambda error: refusal_of(error, visit),
        lambda: _standing(visit, generation.model),
        is_json=asked.json,
    )


async def show_code(visit: Visit) -> Response:
    """The conversation as programs. Pictures come and go as the short texts that stand for them."""
    asked = await _sent(visit, Conversation)
    if isinstance(asked, Response):
        return asked
    programs = [{"name": one.name, "code": one.code} for one in snippets(asked.ask(), visit.host)]
    return JSONResponse({"programs": programs})


async def show_text(visit: Visit) -> Response:
    """The tree of an answer that was cut, which came without it."""
    written = await _sent(visit, _Written)
    if isinstance(written, Response):
        return written
    return JSONResponse({"content": await content_of(written.text, is_json=written.json)})


async def show_charge(visit: Visit) -> Response:
    """What an answer that was cut has cost: null until that is known."""
    request_id = visit.request.path_params["request"]
    record = await RequestLog(visit.instance.database).find(visit.organisation_id, request_id)
    if record is None:
        return JSONResponse({"charge": None})
    took = speed(record.usage, record.first_token_milliseconds, record.total_milliseconds)
    told = {"request": record.request_id, **figures(record.usage, record.cost_ticks), **took}
    return JSONResponse({"charge": told | _standing(visit, record.model)})


async def show_standing(visit: Visit) -> Response:
    """What is left of credits and limits for one model."""
    name = visit.query("model")
    if not any(model.name == name for model in visit.pipeline.catalog.models):
        raise NotFound
    return JSONResponse(_standing(visit, name))


PAGES = (
    Page("/playground", "playground", "use", show_playground),
    Page("/playground/chat", "playground", "use", post=answer, reads_body=True),
    Page("/playground/code", "playground", "use", post=show_code, reads_body=True),
    Page("/playground/text", "playground", "use", post=show_text, reads_body=True),
    Page("/playground/charges/{request}", "playground", "use", show_charge),
    Page("/playground/standing", "playground", "use", show_standing),
)


async def _sent(visit: Visit, wire: type[_Wire]) -> _Wire | Response:
    """What the script sent, or the refusal of it."""
    exchange = Exchange(visit.request.scope, visit.request.receive, _nothing_yet)
    try:
        return decode(await exchange.json_body(_SMALL_BODY_BYTES), wire)
    except LeadlineError as error:
        if isinstance(error, ClientGone):
            raise
        return refuse(error, visit, str(exchange.request_id))


async def _admitted(visit: Visit, exchange: Exchange, asked: Conversation) -> Generation:
    """It may wait for the model to load; whoever hangs up meanwhile waits no longer."""
    caller, request = await _caller(visit), asked.request()
    model = visit.pipeline.catalog.find(asked.model)
    if request.images and "vision" not in model.capabilities:
        raise InvalidRequest(f"{model.name} cannot see pictures.{_who_sees(visit)}", "images")
    call = Call(exchange.request_id, exchange.path, asked.stream)
    generation: Generation | None = None
    try:
        async with exchange.while_connected():
            generation = await visit.pipeline.start(caller, request, call)
    except ClientGone:
        if generation is not None:
            await generation.close()
        raise
    return generation


async def _caller(visit: Visit) -> Caller:
    """The visitor's own key for this, as authentication leaves one."""
    keys = visit.instance.keys
    caller = await keys.playground(visit.organisation_id, visit.actor)
    visit.instance.organisations.refuse_if_suspended(visit.organisation_id)
    keys.touch(caller.id, keys.clock())
    return caller


def _who_sees(visit: Visit) -> str:
    seeing = [model.name for model in visit.pipeline.catalog.models if {"vision", "chat"} <= model.capabilities]
    return f" Choose {seeing[0]}, or delete the picture." if seeing else " No model here can. Delete the picture."


def _standing(visit: Visit, model: str) -> dict[str, Any]:
    """The credits as the rail shows them, and the limits that hold for this model."""
    credits = visit.instance.ledger.meter(visit.organisation_id)
    limits = [
        {"name": one.name.capitalize(), "used": one.used, "of": one.limit, "percent": one.percent}
        for one in visit.pipeline.limiter.look(visit.organisation_id, model)
    ]
    return {"balance": {"available": usd2(credits.available_ticks), "percent": credits.percent}, "limits": limits}


def _chat_model(model: Model, visit: Visit) -> ChatModel:
    card = card_of(model, visit.instance.keys.clock())
    sees, thinks, writes_json = (name in card.capabilities for name in ("vision", "reasoning", "json"))
    what = f"{'Text and images' if sees else 'Text'}{', thinks first' if thinks else ''}"
    context = "" if card.context_tokens is None else f", {_thousands(card.context_tokens)} context"
    prices = [show_usd(ticks * _TOKENS_PER_MILLION) for ticks in (card.input_ticks, card.output_ticks)]
    return ChatModel(
        card.name,
        sees,
        writes_json,
        min(_TOKENS_AT_FIRST, card.default_max_output_tokens),
        f"{what}{context}. {prices[0]} in, {prices[1]} out per million tokens.",
    )


def _thousands(tokens: int) -> str:
    return f"{tokens // 1024}k" if tokens >= 1024 else f"{tokens:,} tokens of"


async def _nothing_yet(_: Message) -> None:
    raise AssertionError("what answers this writes by itself")
