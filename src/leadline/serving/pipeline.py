"""The money path, written once: authenticate, limit, reserve, generate, settle."""

import asyncio
import time
import uuid
from contextlib import aclosing
from dataclasses import dataclass, replace

from leadline.accounts.keys import ApiKey, ApiKeys
from leadline.catalog.catalog import Catalog, Model
from leadline.catalog.prices import Prices
from leadline.chat.events import Finished, Usage
from leadline.chat.request import ChatRequest, Image, Message, Text, ToolResult
from leadline.errors import InvalidRequest, Unavailable
from leadline.ledger.ledger import Charge, Hold, Ledger
from leadline.limits.limiter import Admission, Limiter
from leadline.money import NOTHING, Ticks
from leadline.serving.choices import Batches, generate
from leadline.serving.meter import Meter
from leadline.serving.models import ModelCard, card_of

Caller = ApiKey

# Without max_tokens, a request is admitted when this much of an answer is affordable, and ends where the credits end.
FIRST_SLICE_TOKENS = 64
# How long the final event waits for the commit of its charge.
COMMIT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Call:
    """How the request came in. `endpoint` is its path, such as `/v1/chat/completions`."""

    request_id: uuid.UUID
    endpoint: str
    stream: bool


@dataclass(frozen=True, slots=True)
class Size:
    """The most tokens that a request can use: of prompt, and of answer per choice."""

    prompt_tokens: int
    output_tokens: int
    choices: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens * self.choices

    def cost(self, prices: Prices) -> Ticks:
        return Ticks(
            prices.most_prompt(self.prompt_tokens) + self.output_tokens * self.choices * prices.most_per_output_token
        )


@dataclass(frozen=True, slots=True)
class Pipeline:
    keys: ApiKeys
    catalog: Catalog
    limiter: Limiter
    ledger: Ledger

    def authenticate(self, api_key: str | None) -> Caller:
        """Who calls, or Unauthenticated."""
        return self.keys.authenticate(api_key)

    def models(self, caller: Caller) -> tuple[ModelCard, ...]:
        """The models that the caller may use."""
        return tuple(card_of(model) for model in self.catalog.models)

    def model(self, caller: Caller, name: str) -> ModelCard:
        """One model by name or alias, or ModelNotFound."""
        return card_of(self.catalog.find(name))

    async def count_prompt_tokens(self, caller: Caller, request: ChatRequest) -> int:
        """The tokens that the prompt of `request` has. Free of charge."""
        model = self.catalog.find(request.model)
        _refuse_what_it_lacks(model, request)
        _refuse_unless_ready(model)
        upstream = replace(request, model=model.upstream_model)
        exact = await model.engine.count_prompt_tokens(upstream)
        if exact is None:
            raise InvalidRequest(f"The engine behind {model.name} cannot count tokens.", "model")
        return exact

    async def start(self, caller: Caller, request: ChatRequest, call: Call) -> "Generation":
        """Admit a request. Whatever can be refused is refused here, before the first byte."""
        model = self.catalog.find(request.model)
        _refuse_what_it_lacks(model, request)
        _refuse_unless_ready(model)
        upstream = replace(request, model=model.upstream_model)
        hold = Hold(str(call.request_id), caller.organisation_id, caller.id, model.name, NOTHING)
        size = await self._affordable(model, upstream, await self._size(model, upstream), hold)
        hold.ticks = size.cost(model.prices)
        admission = self.limiter.admit(caller.organisation_id, model.name, size.tokens)
        try:
            self.ledger.reserve(hold)
        except BaseException:
            admission.close(0)
            raise
        upstream = replace(upstream, max_output_tokens=size.output_tokens)
        return Generation(Admitted(request, upstream, call, model, hold, admission), self.ledger)

    async def _size(self, model: Model, request: ChatRequest) -> Size:
        """An upper bound that costs nothing to know; the tokenizer is asked only where that bound decides."""
        context = model.context
        most = model.engine.most_prompt_tokens(request)
        asked = request.max_output_tokens or model.default_max_output_tokens
        if context is None or most + asked <= context:
            return Size(most, asked, request.choices)
        exact = await model.engine.count_prompt_tokens(request)
        if exact is not None and exact >= context:
            raise InvalidRequest(
                f"This model's context is {context} tokens, but the prompt has {exact}. Send a shorter prompt.",
                "messages",
            )
        prompt_tokens = min(most, context) if exact is None else exact
        # Where nobody counts and the bound leaves no room, the engine alone knows whether it fits.
        left = context - prompt_tokens or context - min(context - 1, _estimated_prompt_tokens(request))
        return Size(prompt_tokens, min(asked, left), request.choices)

    async def _affordable(self, model: Model, request: ChatRequest, size: Size, hold: Hold) -> Size:
        """`size`, or what the credits allow of it. The reservation itself refuses what stays too much."""
        available = self.ledger.balance(hold.organisation_id).available_ticks
        if size.cost(model.prices) <= available:
            return size
        exact = await model.engine.count_prompt_tokens(request)
        if exact is not None:
            size = replace(size, prompt_tokens=exact)
        available = self.ledger.balance(hold.organisation_id).available_ticks
        if request.max_output_tokens is None and size.cost(model.prices) > available:
            left = available - model.prices.most_prompt(size.prompt_tokens)
            output_tokens = left // (model.prices.most_per_output_token * size.choices or 1)
            if output_tokens >= min(FIRST_SLICE_TOKENS, size.output_tokens):
                size = replace(size, output_tokens=min(output_tokens, size.output_tokens))
        return size


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may run. `upstream` is `request` in the engine's words, with its tokens bounded."""

    request: ChatRequest
    upstream: ChatRequest
    call: Call
    model: Model
    hold: Hold
    admission: Admission


class Generation:
    """One admitted request. Use it as `async with`; leaving it settles, however it ends."""

    def __init__(self, admitted: Admitted, ledger: Ledger) -> None:
        self.request_id = admitted.call.request_id
        self.created_at = int(time.time())
        self.model = admitted.model.name
        self.requested_model = admitted.request.model
        self.fingerprint = admitted.model.fingerprint
        self.choices = admitted.request.choices
        self.cost_ticks = 0
        self._admitted = admitted
        self._ledger = ledger
        self._prompt_estimate = _estimated_prompt_tokens(admitted.upstream)
        self._meter = Meter(self._prompt_estimate)
        self._failure: Exception | None = None
        self._finished = False
        self._settlement: asyncio.Future[None] | None = None

    @property
    def usage(self) -> Usage:
        return self._meter.usage

    async def events(self) -> Batches:
        """The batches, in the grammar of `chat.events`. Finished comes once the charge is durable."""
        engine, upstream = self._admitted.model.engine, self._admitted.upstream
        secured = self._secure()
        try:
            async with aclosing(generate(engine, upstream, self._prompt_estimate)) as batches:
                async for batch in batches:
                    self._meter.count(batch)
                    if secured is not None:
                        await secured
                        secured = None
                    if isinstance(batch[-1], Finished):
                        self._finished = True
                        await self._settled_in_time()
                    yield batch
        except Exception as error:
            self._failure = error
            raise
        finally:
            if secured is not None:
                await _despite_cancellation(secured)

    def fail(self, error: Exception) -> None:
        """It ends by our own fault, whatever the cancellation looks like: an answer cut before it costs nothing."""
        self._failure = self._failure or error

    async def __aenter__(self) -> "Generation":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Settle what was used and let the next request in. Closing twice is harmless."""
        await _despite_cancellation(self._settle())

    def _secure(self) -> "asyncio.Future[None] | None":
        """A stream's hold becomes durable beside the engine's work; only the first byte waits for it. A whole answer
        needs no hold: a crash before it is no answer and no charge."""
        return asyncio.ensure_future(self._ledger.secure(self._admitted.hold)) if self._admitted.call.stream else None

    async def _settled_in_time(self) -> None:
        done, _ = await asyncio.wait([self._settle()], timeout=COMMIT_SECONDS)
        if not done:
            raise Unavailable("The charge could not be recorded in time, so the answer is not complete.")
        done.pop().result()

    def _settle(self) -> "asyncio.Future[None]":
        """The one settlement of this generation, begun by whoever asks first."""
        if self._settlement is None:
            usage = self._charged_usage()
            self._admitted.admission.close(usage.prompt_tokens + usage.output_tokens + usage.reasoning_tokens)
            self._settlement = asyncio.ensure_future(self._charge(usage))
        return self._settlement

    async def _charge(self, usage: Usage) -> None:
        hold = self._admitted.hold
        if usage.prompt_tokens == 0:
            await self._ledger.release(hold)
            return
        # The engine's count is the truth, and the reservation the promise: a charge never exceeds it.
        self.cost_ticks = min(self._admitted.model.prices.cost(usage), hold.ticks)
        reason = "" if self._finished else "interrupted"
        charge = Charge(Ticks(self.cost_ticks), usage, self._admitted.call.endpoint, reason)
        await self._ledger.settle(hold, charge)

    def _charged_usage(self) -> Usage:
        """What was made, or nothing where we failed before the client had anything of it."""
        usage = self._meter.usage
        if self._failure is None:
            return usage
        delivered = self._admitted.call.stream and usage.output_tokens + usage.reasoning_tokens > 0
        return usage if delivered else Usage()


def _refuse_what_it_lacks(model: Model, request: ChatRequest) -> None:
    """What would change the answer's form or meaning is refused by name on a model that lacks it."""
    capabilities = model.capabilities
    lacking = [
        ("chat", True, "model", "chat"),
        ("tools", bool(request.tools) and request.tool_choice.mode != "none", "tools", "tools"),
        ("json", request.json_format is not None, "response_format", "JSON answers"),
        ("logprobs", request.top_logprobs is not None, "logprobs", "log probabilities"),
    ]
    for capability, wanted, param, words in lacking:
        if wanted and capability not in capabilities:
            raise InvalidRequest(f"The model {model.name} does not support {words}.", param)
    if "vision" not in capabilities and any(_has_image(message) for message in request.messages):
        raise InvalidRequest(
            f"The model {model.name} cannot see images: no vision model is loaded. Send text only.", "messages"
        )


def _has_image(message: Message) -> bool:
    return any(
        isinstance(block, Image)
        or (isinstance(block, ToolResult) and any(isinstance(part, Image) for part in block.content))
        for block in message.content
    )


def _refuse_unless_ready(model: Model) -> None:
    status = model.engine.status
    if not status.ready:
        raise Unavailable(f"The model {model.name} is not ready: {status.detail}. Try again in a moment.")


def _estimated_prompt_tokens(request: ChatRequest) -> int:
    """Where an engine tells the prompt's tokens only at the end: a token for each four bytes, at least one."""
    size = 0
    for message in request.messages:
        for block in message.content:
            match block:
                case Text():
                    size += len(block.text.encode())
                case ToolResult():
                    size += sum(len(part.text.encode()) for part in block.content if isinstance(part, Text))
                case _:
                    pass
    return max(1, size // 4)


async def _despite_cancellation(task: "asyncio.Future[None]") -> None:
    """Wait for `task` even if the client hangs up meanwhile; then let the cancellation through."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled:
        raise cancelled
