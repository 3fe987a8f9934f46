"""The money path, written once: authenticate, limit, reserve, generate, settle."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, closing
from dataclasses import dataclass, replace

import msgspec

from leadline.accounts.api_key import NONE, ApiKey
from leadline.accounts.keys import ApiKeys
from leadline.accounts.organisations import Organisations
from leadline.catalog.catalog import Catalog, Model
from leadline.catalog.prices import Prices
from leadline.chat.request import ChatRequest
from leadline.clock import Clock, now_microseconds
from leadline.engines.engine import Capability, Token, Use
from leadline.errors import InvalidRequest, LeadlineError, ModelNotFound, PermissionDenied
from leadline.ledger.books import Hold
from leadline.ledger.ledger import Ledger
from leadline.ledger.usage import UsageRecord
from leadline.limits.limiter import Limiter
from leadline.money import NOTHING
from leadline.serving.batches import Batches
from leadline.serving.codec import KeptAnswer
from leadline.serving.deferred import Deferred
from leadline.serving.file_contents import Content
from leadline.serving.file_rows import File, FileOrder, FilePage
from leadline.serving.file_texts import lines_of, text_of
from leadline.serving.files import Files, Upload
from leadline.serving.generation import (
    PUTS_OFF,
    Admitted,
    Call,
    Generation,
    LookUp,
    estimated_prompt_tokens,
    nothing_more,
)
from leadline.serving.keys import KeyCard
from leadline.serving.models import ModelCard, card_of
from leadline.serving.pictures import Pictures
from leadline.serving.replays import Replays
from leadline.serving.running import Running
from leadline.serving.scopes import refuse_endpoint
from leadline.serving.stored import Kind, StoredAnswers

Caller = ApiKey

# Without max_tokens, a request is admitted when this much of an answer is affordable, and ends where the credits end.
FIRST_SLICE_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Size:
    """The most tokens that a request can use: of prompt, and of answer per choice."""

    prompt_tokens: int
    output_tokens: int
    choices: int

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens * self.choices


@dataclass(frozen=True, slots=True)
class Pipeline:
    keys: ApiKeys
    organisations: Organisations
    catalog: Catalog
    limiter: Limiter
    ledger: Ledger
    running: Running
    replays: Replays
    stored: StoredAnswers
    deferred: Deferred
    files: Files
    batches: Batches
    pictures: Pictures
    clock: Clock = now_microseconds

    @property
    def is_ready(self) -> bool:
        """Whether a model can answer now."""
        return any(model.engine.status.ready for model in self.catalog.models)

    def authenticate(self, api_key: str | None, address: str = "") -> Caller:
        """Who calls, from an address; Unauthenticated, or PermissionDenied where the organisation is suspended."""
        caller = self.keys.authenticate(api_key)
        self.organisations.refuse_if_suspended(caller.organisation_id)
        self.keys.touch(caller.id, self.clock(), address)
        return caller

    async def describe_key(self, api_key: str | None) -> KeyCard:
        """The key that was presented, also where it may do nothing now. Unauthenticated where it was revoked or is none
        of ours."""
        key = self.keys.identify(api_key)
        user_id = key.created_by or await self.organisations.first_member(key.organisation_id)
        suspended = self.organisations.is_suspended(key.organisation_id)
        expired = key.expires_at is not None and key.expires_at <= self.clock()
        return KeyCard(key, user_id, suspended, key.disabled_at is not None, expired)

    def models(self, caller: Caller) -> tuple[ModelCard, ...]:
        """The models that the caller may use."""
        refuse_endpoint(caller, "models")
        return tuple(card_of(model, self.clock()) for model in self.catalog.models if self._permits(caller, model))

    def model(self, caller: Caller, name: str) -> ModelCard:
        """One model by name or alias, or ModelNotFound."""
        refuse_endpoint(caller, "models")
        model = self.catalog.find(name)
        self._refuse_model(caller, model)
        return card_of(model, self.clock())

    async def count_prompt_tokens(self, caller: Caller, request: ChatRequest, look_up: LookUp = nothing_more) -> int:
        """The tokens that the prompt of `request` has. Free of charge."""
        async with self._tokenizer(caller, request.model) as model:
            request = _without_wishes(model, await look_up(request))
            _refuse_what_it_lacks(model, request)
            self._refuse_images(caller, model, request)
            exact = await _exact_prompt_tokens(model, await self._shown(model, request))
        if exact is None:
            raise InvalidRequest(f"The engine behind {model.name} cannot count tokens.", "model")
        return exact

    async def tokenize(self, caller: Caller, model_name: str, text: str) -> tuple[Token, ...]:
        """The tokens of a text, without a template. Free of charge."""
        async with self._tokenizer(caller, model_name) as model:
            tokens = await model.engine.tokenize(model.upstream_model, text)
        if tokens is None:
            raise InvalidRequest(f"The engine behind {model.name} cannot tokenize.", "model")
        return tokens

    @asynccontextmanager
    async def _tokenizer(self, caller: Caller, model_name: str) -> AsyncIterator[Model]:
        """A model whose tokenizer the caller may ask: a request by the limits, but no tokens and no money."""
        model = self.catalog.find(model_name)
        admission = self.limiter.enter(caller.organisation_id, model.name, caller.id, caller.name, caller.limit)
        try:
            refuse_endpoint(caller, "tokenize")
            self._refuse_model(caller, model)
            with closing(await model.engine.take()):
                yield model
        finally:
            admission.close()

    async def find_stored(self, caller: Caller, kind: Kind, spelled_id: str) -> KeptAnswer | None:
        """What is kept for the caller's organisation under this id, or None."""
        refuse_endpoint(caller, "chat")
        return await self.stored.find(caller.organisation_id, kind, spelled_id)

    async def delete_stored(self, caller: Caller, kind: Kind, spelled_id: str) -> bool:
        """False where there is nothing to delete."""
        refuse_endpoint(caller, "chat")
        return await self.stored.delete(caller.organisation_id, kind, spelled_id)

    async def take_deferred(self, caller: Caller, spelled_id: str) -> KeptAnswer | None:
        """The answer to a deferred request, once; None while it runs. Raises the error that came of it."""
        refuse_endpoint(caller, "chat")
        return await self.deferred.take(caller.organisation_id, spelled_id)

    def upload_file(self, caller: Caller, filename: str) -> AbstractAsyncContextManager[Upload]:
        """A new file, which is there once it was kept."""
        refuse_endpoint(caller, "files")
        return self.files.upload(caller.organisation_id, filename)

    async def find_file(self, caller: Caller, file_id: str) -> File:
        """FileNotFound where the caller's organisation has none of this id, as in all that follows."""
        refuse_endpoint(caller, "files")
        return await self.files.find(caller.organisation_id, file_id)

    async def list_files(self, caller: Caller, order: FileOrder) -> FilePage:
        refuse_endpoint(caller, "files")
        return await self.files.page(caller.organisation_id, order)

    async def delete_file(self, caller: Caller, file_id: str) -> None:
        refuse_endpoint(caller, "files")
        await self.files.delete(caller.organisation_id, file_id)

    def open_file(self, caller: Caller, file_id: str) -> AbstractAsyncContextManager[Content]:
        """What a file holds."""
        refuse_endpoint(caller, "files")
        return self.files.open(caller.organisation_id, file_id)

    async def file_text(self, caller: Caller, file_id: str) -> str:
        """What a file says, for a request that reads it; InvalidRequest for `file_id` where it is no text."""
        async with self.files.open(caller.organisation_id, file_id) as content:
            return await text_of(content)

    async def file_lines(self, caller: Caller, file_id: str) -> AsyncGenerator[bytes, None]:
        """The lines of a file; InvalidRequest for `file_id` at one that is too long. Close it (`aclosing`)."""
        async with self.files.open(caller.organisation_id, file_id) as content, aclosing(lines_of(content)) as lines:
            async for line in lines:
                yield line

    async def start(self, caller: Caller, request: ChatRequest, call: Call) -> Generation:
        """Admit a request. Whatever can be refused is refused here, before the first byte."""
        model, began_at = self.catalog.find(request.model), self.clock()
        try:
            return await self._admit(caller, model, request, call, began_at)
        except LeadlineError as error:
            if call.batched and isinstance(error, PUTS_OFF):
                raise
            self.ledger.note(
                UsageRecord(
                    *(caller.organisation_id, str(call.request_id), began_at, self.clock(), caller.id, model.name),
                    *(call.endpoint, "refused", error.fact, call.stream),
                )
            )
            raise

    async def _admit(self, caller: Caller, model: Model, request: ChatRequest, call: Call, began_at: int) -> Generation:
        organisation_id = caller.organisation_id
        enter = self.limiter.enter
        admission = (
            self.limiter.exempt()
            if call.batched
            else enter(organisation_id, model.name, caller.id, caller.name, caller.limit)
        )
        use: Use | None = None
        try:
            refuse_endpoint(caller, call.scope)
            self._refuse_model(caller, model)
            request = _without_wishes(model, await call.look_up(request))
            _refuse_what_it_lacks(model, request)
            self._refuse_images(caller, model, request)
            prices = model.prices_at(began_at)
            hold = Hold(
                *(str(call.request_id), organisation_id, caller.id, model.name, call.endpoint, NOTHING, began_at),
                *(caller.name, caller.cap, call.replayable),
            )
            self._refuse_without_means(request, prices, hold)
            # Before money is set aside: it may wait for a load.
            use = await model.engine.take()
            shown = await self._shown(model, request)
            size = await self._affordable(model, shown, await self._size(model, shown), prices, hold)
            admission.take_tokens(size.tokens)
            hold.ticks = prices.most(size.prompt_tokens, size.output_tokens * size.choices)
            self.ledger.reserve(hold)
        except BaseException:
            if use is not None:
                use.close()
            admission.close()
            raise
        upstream = replace(
            shown,
            model=model.upstream_model,
            max_output_tokens=size.output_tokens,
            # Further choices begin once the first one's prompt is read, and that shows only where it is streamed.
            whole=not call.stream and size.choices == 1,
            cache_scope=organisation_id,
        )
        admitted = Admitted(request, upstream, call, model, prices, hold, admission, use)
        return self.running.begin(Generation(admitted, self.ledger, self.clock))

    async def _shown(self, model: Model, request: ChatRequest) -> ChatRequest:
        """The request as the engine gets it: with images that were fetched and decoded."""
        return await self.pictures.plain(request) if "vision" in model.capabilities else request

    def _refuse_without_means(self, request: ChatRequest, prices: Prices, hold: Hold) -> None:
        """Whoever cannot pay for a token makes no model load, nor another one go for it."""
        least = prices.most(1, 0 if request.vectors else 1)
        if self.ledger.available_ticks(hold) < least:
            self.ledger.reserve(msgspec.structs.replace(hold, ticks=least))
            raise AssertionError("what is not available cannot be reserved")

    async def _size(self, model: Model, request: ChatRequest) -> Size:
        """An upper bound that costs nothing to know; the tokenizer is asked only where that bound decides."""
        asked = 0 if request.vectors else request.max_output_tokens or model.default_max_output_tokens
        context = model.context
        prompts = [await self._prompt_size(model, context, one, asked) for one in request.apart()]
        if context is not None:
            # Where nobody counts and the bound leaves no room, the engine alone knows whether it fits.
            left = context - max(prompts)
            asked = min(asked, left or context - min(context - 1, estimated_prompt_tokens(request)))
        return Size(sum(prompts), asked, request.choices)

    async def _prompt_size(self, model: Model, context: int | None, request: ChatRequest, asked: int) -> int:
        """An upper bound of one prompt's tokens; the exact number where an answer of `asked` tokens may not fit. There
        must be room for one token of an answer, if one is asked for."""
        most = model.engine.most_prompt_tokens(request)
        if context is None or most + asked <= context:
            return most
        exact = await _exact_prompt_tokens(model, request)
        if exact is not None and exact + min(asked, 1) > context:
            raise InvalidRequest(
                f"This model's context is {context} tokens, but the prompt has {exact}. Send a shorter prompt.",
                "input" if request.vectors else "prompt" if request.prompts else "messages",
            )
        return min(most, context) if exact is None else exact

    async def _affordable(self, model: Model, request: ChatRequest, size: Size, prices: Prices, hold: Hold) -> Size:
        """`size`, or what the credits and the key's cap allow of it. The reservation itself refuses what stays too
        much."""
        if prices.most(size.prompt_tokens, size.output_tokens * size.choices) <= self.ledger.available_ticks(hold):
            return size
        exact = [await _exact_prompt_tokens(model, one) for one in request.apart()]
        counted = [tokens for tokens in exact if tokens is not None]
        if len(counted) == len(exact):
            size = replace(size, prompt_tokens=sum(counted))
        if request.max_output_tokens is None:
            affordable = prices.affordable_output_tokens(size.prompt_tokens, self.ledger.available_ticks(hold))
            output_tokens = min(affordable // size.choices, size.output_tokens)
            if output_tokens >= min(FIRST_SLICE_TOKENS, size.output_tokens):
                size = replace(size, output_tokens=output_tokens)
        return size

    def _refuse_images(self, caller: Caller, model: Model, request: ChatRequest) -> None:
        """Of a model that cannot see. It names one that can, if the caller may use one."""
        if "vision" in model.capabilities or not request.images:
            return
        others = (other for other in self.catalog.models if "vision" in other.capabilities)
        seeing = next((other.name for other in others if self._permits(caller, other)), None)
        instead = "no vision model is loaded" if seeing is None else f"ask {seeing}, which can"
        raise InvalidRequest(f"The model {model.name} cannot see images: {instead}. Or send text only.", "messages")

    def _permits(self, caller: Caller, model: Model) -> bool:
        """A key's models are names or aliases: what they mean is decided now, not when the key was made."""
        if caller.models == NONE:
            return False
        return not caller.models or any(self._means(name, model) for name in caller.models)

    def _means(self, name: str, model: Model) -> bool:
        try:
            return self.catalog.find(name) is model
        except ModelNotFound:
            return False

    def _refuse_model(self, caller: Caller, model: Model) -> None:
        if not self._permits(caller, model):
            raise PermissionDenied(
                f"The API key “{caller.name}” may not use the model {model.name}. Use one of its models, or change "
                "the key."
            )


async def _exact_prompt_tokens(model: Model, request: ChatRequest) -> int | None:
    """None where the engine cannot tell."""
    return await model.engine.count_prompt_tokens(replace(request, model=model.upstream_model))


def _without_wishes(model: Model, request: ChatRequest) -> ChatRequest:
    """A model that cannot think is not told how hard to."""
    effort = request.effort
    if effort is None or (effort != "none" and not request.effort_is_wish) or "reasoning" in model.capabilities:
        return request
    return replace(request, effort=None)


# What a model must be able to do for a request that wants it, the field that says so, and what it is called.
_WANTED: tuple[tuple[Capability, Callable[[ChatRequest], bool], str, str], ...] = (
    ("chat", lambda request: not request.prompts, "model", "chat"),
    ("completions", lambda request: request.continues, "model", "completions of plain text"),
    ("embeddings", lambda request: request.vectors is not None, "model", "embeddings"),
    ("reasoning", lambda request: request.thinks, "reasoning_effort", "parameter reasoningEffort: it has no thinking"),
    ("tools", lambda request: bool(request.tools) and request.tool_choice.mode != "none", "tools", "tools"),
    ("json", lambda request: request.json_format is not None, "response_format", "JSON answers"),
    ("logprobs", lambda request: request.top_logprobs is not None, "logprobs", "log probabilities"),
)


def _refuse_what_it_lacks(model: Model, request: ChatRequest) -> None:
    """What would change the answer's form or meaning is refused by name on a model that lacks it."""
    capabilities = model.capabilities
    for capability, wants, param, words in _WANTED:
        if capability not in capabilities and wants(request):
            raise InvalidRequest(f"The model {model.name} does not support {words}.", param)
