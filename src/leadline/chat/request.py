"""The one chat request that every dialect decodes to and every engine runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
# How hard to think before the answer; `none`: not at all.
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: tuple[Effort, ...] = get_args(Effort)


@dataclass(frozen=True, slots=True)
class Text:
    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture: an http(s) URL or a `data:` URL."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


@dataclass(frozen=True, slots=True)
class Reasoning:
    """What a model thought before it answered. `signature` is opaque and round-trips."""

    text: str
    signature: str = ""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the assistant asks for. `arguments` is JSON text of an object."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ToolResult:
    call_id: str
    content: tuple[Text | Image, ...]
    is_error: bool = False


Block = Text | Image | Reasoning | ToolCall | ToolResult


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. Only `tool` messages hold a ToolResult (exactly one), only `assistant` ones Reasoning and ToolCall."""

    role: Role
    content: tuple[Block, ...]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is a JSON Schema."""

    name: str
    description: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`named` forces the tool called `name`; `required` forces any one."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The answer must be JSON; with `schema`, JSON that this JSON Schema accepts."""

    schema: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. None leaves it to the engine. `logit_bias` is by token id, from -100 (never) to 100
    (only these); `top_k` 0 is no bound."""

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_k: int | None = None
    min_p: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Vectors:
    """What is asked for in place of text: a vector for each prompt. `dimensions` None: all that the model has."""

    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """`max_output_tokens` None: as many as the model's default and the credits allow.

    `prompts` stand in place of messages: texts, or token ids, that are continued as they are, without a template. Each
    has an equal share of the choices, one prompt's after the other's.
    """

    model: str
    messages: tuple[Message, ...]
    max_output_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    choices: int = 1
    # Ask for log probabilities: how many alternatives per token. None: none at all.
    top_logprobs: int | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    parallel_tool_calls: bool = True
    json_format: JsonFormat | None = None
    prompts: tuple[str | tuple[int, ...], ...] = ()
    # The prompts are embedded, not continued.
    vectors: Vectors | None = None
    # None leaves it to the model. A wish is not granted by a model that cannot think; it refuses anything more.
    effort: Effort | None = None
    effort_is_wish: bool = False
    # The answer is wanted whole: an engine may give it in one batch. Hung up upon it then costs its prompt alone.
    whole: bool = field(default=False, compare=False)
    # Whose work an engine may use again for it: requests of other scopes neither use it nor learn of it. Opaque; no
    # dialect sets it, and no server is told it as it is.
    cache_scope: str = field(default="", repr=False, compare=False)

    @property
    def thinks(self) -> bool:
        """Whether it asks for thoughts."""
        return self.effort not in (None, "none")

    @property
    def images(self) -> tuple[Image, ...]:
        """All images of the messages in their order, those of tool results too."""
        blocks = (block for message in self.messages for block in message.content)
        parts = (part for block in blocks for part in (block.content if isinstance(block, ToolResult) else (block,)))
        return tuple(part for part in parts if isinstance(part, Image))

    @property
    def continues(self) -> bool:
        """Whether it asks for what follows its prompts."""
        return bool(self.prompts) and self.vectors is None

    def apart(self) -> tuple["ChatRequest", ...]:
        """A request for each prompt, with its share of the choices; itself where it has messages."""
        if len(self.prompts) < 2:
            return (self,)
        share = self.choices // len(self.prompts)
        return tuple(replace(self, prompts=(prompt,), choices=share) for prompt in self.prompts)
