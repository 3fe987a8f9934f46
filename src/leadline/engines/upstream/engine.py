"""A remote OpenAI-compatible server as an engine: kinds `openai` and `vllm`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from leadline.chat.events import ChatEvent
from leadline.chat.request import ChatRequest
from leadline.engines.engine import NOT_STARTED, Capability, EngineStatus, ModelFacts, Token, Unneeded, Use
from leadline.engines.upstream.client import ChatClient, most_prompt_tokens
from leadline.engines.upstream.http import Address, HttpClient
from leadline.errors import LeadlineError, Unavailable

_PROBE_SECONDS = 5.0
_PROBE_EVERY_SECONDS = 10.0
_PROBE_AGAIN_SECONDS = 0.5
# A server that does not say what it can do is trusted with all that its protocol has words for. But servers whose model
# does not think refuse even to be told so: `reasoning` is for the configuration to say.
_CAPABILITIES: frozenset[Capability] = frozenset(("chat", "completions", "tools", "json", "logprobs"))
# Where servers write a model's context in their model list.
_CONTEXT_FIELDS = ("max_model_len", "context_length", "context_tokens", "context_window")


@dataclass(slots=True)
class UpstreamEngine:
    """`url` ends where `/chat/completions` follows, such as `http://127.0.0.1:8000/v1`. It is reached at `ip`, where
    that is known. `probed` is called after each look at whether it is there."""

    name: str
    kind: str
    url: str
    api_key: str | None = None
    ip: str | None = None
    probe_every_seconds: float = _PROBE_EVERY_SECONDS
    probed: Callable[[], None] = lambda: None
    _client: ChatClient = field(init=False)
    _status: EngineStatus = NOT_STARTED
    _contexts: dict[str, int] = field(default_factory=dict)
    # What was told of each model since the last probe.
    _facts: dict[str, ModelFacts] = field(default_factory=dict)
    _probing: "asyncio.Task[None] | None" = None
    _doubted: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        headers = {} if self.api_key is None else {"Authorization": f"Bearer {self.api_key}"}
        http = HttpClient(self.name, replace(Address.of(self.url), ip=self.ip), headers)
        self._client = ChatClient(http, vllm=self.kind == "vllm")

    @property
    def status(self) -> EngineStatus:
        return self._status

    async def start(self) -> None:
        self._probing = asyncio.create_task(self._probe())

    async def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._probing
        self._client.http.close()

    async def take(self) -> Use:
        if not self._status.ready:
            why = self._status.detail.rstrip(".")
            raise Unavailable(f"The engine {self.name} is not ready: {why}. Try again in a moment.")
        return Unneeded()

    def doubt(self, why: str) -> None:
        """It is not ready, whatever it said last, until it answers again; it is asked at once."""
        self._status = EngineStatus(ready=False, detail=why)
        self._doubted.set()

    def facts(self, model: str) -> ModelFacts:
        facts = self._facts.get(model)
        if facts is None:
            facts = ModelFacts(self._contexts.get(model), _CAPABILITIES, (self.kind, self.url, model))
            self._facts[model] = facts
        return facts

    def leaves_room(self, request: ChatRequest) -> bool:
        return True

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        return most_prompt_tokens(request)

    async def count_prompt_tokens(self, request: ChatRequest) -> int | None:
        return None

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...] | None:
        return None

    def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self._client.generate(request)

    def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        return self._client.embed(request)

    async def _probe(self) -> None:
        """Ask for the model list now and then: whether the server is there, and how long its contexts are."""
        while True:
            try:
                models = await self._client.get("/models", _PROBE_SECONDS)
                self._contexts, self._facts = _contexts(models), {}
                self._status = EngineStatus(ready=True, detail=f"answers at {self.url}")
            except LeadlineError as error:
                self._status = EngineStatus(ready=False, detail=str(error))
            self.probed()
            self._doubted.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.probe_every_seconds if self._status.ready else _PROBE_AGAIN_SECONDS):
                    await self._doubted.wait()


def _contexts(models: Any) -> dict[str, int]:
    """Context tokens by model id, from a model list of whatever shape."""
    entries = models.get("data") if isinstance(models, dict) else None
    contexts: dict[str, int] = {}
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str):
            found = [entry[name] for name in _CONTEXT_FIELDS if isinstance(entry.get(name), int)]
            if found and found[0] > 0:
                contexts[entry["id"]] = found[0]
    return contexts
