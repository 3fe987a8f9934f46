"""Renders a model's chat template: a ChatRequest becomes the pieces of a plain prompt."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from leadline.chat.request import ChatRequest
from leadline.clock import Clock, now_microseconds
from leadline.engines.format.conversation import AS_IT_IS, CONTINUED, STRICTEST, Body, Put, Shape, conversation
from leadline.engines.format.family import PLAIN, CallForm, Thinking, call_form, thinking_style
from leadline.engines.format.marks import Guard, Piece, prompt_text
from leadline.engines.format.places import placed
from leadline.engines.format.probe import PROBE, find_shape
from leadline.engines.format.sandbox import Sandbox, TemplateFailed
from leadline.errors import InvalidRequest, LeadlineError

# For models that have no template.
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# What models write where their turn ends, whatever their file calls its end.
_ENDS = frozenset(
    (
        *("<|im_end|>", "<|endoftext|>", "<|end_of_text|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|return|>"),
        *("<end_of_turn>", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<|EOT|>", "<EOT>", "</s>"),
    )
)
# A prompt may have so many characters for each byte of its request, and so many besides.
_CHARACTERS_PER_BYTE = 16
_CHARACTERS_BESIDES = 64 * 1024
# Templates that do this to texts could put a special token together from harmless parts.
_REWRITES = ("replace", "truncate", "striptags", "reverse", "upper", "lower", "title", "capitalize")
_ACTS_AS_CONTROL = (
    "Some text in this request would act as control tokens of this model. Take texts such as `<|im_end|>`, and single "
    "pieces of them, out of it."
)
_json = msgspec.json.Encoder()


class TemplateUnusable(LeadlineError):
    """This model's chat template cannot be used: it does not even take a single user message."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What a model's tokenizer says: the texts of the tokens of beginning and end, whether it `adds_bos` before each
    prompt, all texts that it may take for a token that is no text, and the number of its tokens; 0: unknown."""

    bos: str | None = None
    eos: str | None = None
    adds_bos: bool = False
    special: tuple[str, ...] = ()
    tokens: int = 0

    @property
    def ends(self) -> tuple[str, ...]:
        """The special tokens that end an answer: the token of the end, and those that are known to end a turn."""
        known = tuple(text for text in self.special if text in _ENDS)
        return known if self.eos is None or self.eos in known else (*known, self.eos)


@dataclass(frozen=True, slots=True)
class _Job:
    request: ChatRequest
    shape: Shape
    thinking: bool | None
    most_characters: int


class ChatTemplate:
    """One model's template, compiled and tried out. `calls` is how the model writes tool calls, `thinking` how it
    thinks, if it does, and `shape` what the template takes."""

    def __init__(self, source: str | None, vocabulary: Vocabulary, clock: Clock = now_microseconds) -> None:
        """TemplateUnusable where `source` is no template, or fails on a single user message. None: ChatML."""
        source = source or CHATML
        self._vocabulary = vocabulary
        self._guard = Guard(vocabulary.special)
        try:
            self._sandbox = Sandbox(source, clock)
        except TemplateFailed:
            raise TemplateUnusable from None
        self.thinking: Thinking | None = thinking_style(source, self._sandbox.variables)
        self._constants: dict[str, object] = {}
        form = call_form(source)
        self.shape = self._find_shape(form)
        self.calls: CallForm = replace(form, short_ids=self.shape.short_ids) if self.shape.tools else PLAIN
        # Whether user strings can be marked, and whether special tokens can come to be where no string holds one.
        self._markable, self._glues = self._try_marks()
        self._glues = self._glues or any(word in source for word in _REWRITES)

    @property
    def vocabulary(self) -> Vocabulary:
        return self._vocabulary

    def render(self, request: ChatRequest, *, thinking: bool | None = None) -> tuple[Piece, ...]:
        """The prompt of `request`. `thinking` turns it on or off where the model can; None leaves it to the template.
        InvalidRequest where the template does not take the conversation. Images are places in it (`places.py`)."""
        request = placed(request)
        encoded = _json.encode((request.messages, request.tools))
        most_characters = _CHARACTERS_PER_BYTE * len(encoded) + _CHARACTERS_BESIDES
        suspicious = self._guard.suspects(encoded)
        for shape in (self.shape, STRICTEST):
            try:
                return self._pieces(_Job(request, shape, thinking, most_characters), suspicious=suspicious)
            except TemplateFailed:
                continue
        raise InvalidRequest(
            "This model's chat template does not take this conversation. Begin with a system message or none, then let "
            "user and assistant messages follow in turn.",
            "messages",
        )

    def plain(self, text: str) -> tuple[Piece, ...]:
        """The prompt that is `text` as it stands, without the template: no special token in it acts as one."""
        bos = self._vocabulary.bos
        begun = bos if self._vocabulary.adds_bos and bos else ""
        if not self._guard.count(text):
            return (Piece(begun + text, special=True),)
        return (*((Piece(begun, special=True),) if begun else ()), *self._guard.plain(text))

    def plain_text(self, text: str) -> tuple[Piece, ...]:
        """`text` as it stands, with nothing before it."""
        return tuple(self._guard.plain(text))

    def as_text(self, pieces: tuple[Piece, ...]) -> str:
        """A rendered prompt for an engine that takes it as one text in which all special tokens count: users' are
        broken. InvalidRequest where that does not do."""
        text = self._guard.joined(pieces)
        if text is None:
            raise InvalidRequest(_ACTS_AS_CONTROL, "messages")
        return text

    def refuse_unknown(self, token_ids: Iterable[int], param: str) -> None:
        """InvalidRequest where a token id is none of the vocabulary."""
        most = self._vocabulary.tokens
        unknown = next((token_id for token_id in token_ids if not 0 <= token_id < most), None) if most else None
        if unknown is not None:
            raise InvalidRequest(f"{param}: this model has no token {unknown}, only 0 to {most - 1}.", param)

    def without_bos(self, text: str) -> str:
        """A rendered prompt for a tokenizer that sets the token of beginning by itself."""
        bos = self._vocabulary.bos
        return text.removeprefix(bos) if self._vocabulary.adds_bos and bos else text

    def _pieces(self, job: _Job, *, suspicious: bool) -> tuple[Piece, ...]:
        """Nearly all requests hold no special token, and are one piece, rendered as they are."""
        if not suspicious and not self._glues:
            return (Piece(self._text(job, AS_IT_IS), special=True),)
        pieces = self._cut(job) if self._markable else None
        if pieces is not None and not suspicious:
            text = self._text(job, AS_IT_IS)
            if self._guard.count(text) == sum(self._guard.count(piece.text) for piece in pieces if piece.special):
                return (Piece(text, special=True),)
        return pieces or self._checked(job)

    def _checked(self, job: _Job) -> tuple[Piece, ...]:
        """Without marks: the special tokens are broken, and counted against those of a harmless request."""
        text = self._text(job, self._guard.defused)
        if self._guard.count(text) != self._guard.count(self._text(job, self._guard.harmless)):
            raise InvalidRequest(_ACTS_AS_CONTROL, "messages")
        return (Piece(text, special=True),)

    def _cut(self, job: _Job) -> tuple[Piece, ...] | None:
        marks = self._guard.marks()
        try:
            return self._guard.cut(self._text(job, marks), marks)
        except TemplateFailed:
            return None

    def _text(self, job: _Job, put: Put) -> str:
        said = conversation(job.request, job.shape, self.thinking, put)
        variables = {**self._constants, "messages": said.messages, "add_generation_prompt": not said.continues}
        if said.tools is not None:
            variables["tools"] = said.tools
        if self.thinking is not None and self.thinking.switch is not None and job.thinking is not None:
            variables[self.thinking.switch] = job.thinking
        text = self._sandbox.render(variables, job.most_characters)
        if said.continues:
            text, continued, _ = text.rpartition(CONTINUED)
            if not continued:
                raise TemplateFailed
        elif job.thinking is False and self.thinking is not None and self.thinking.is_open(text):
            text = f"{text.rstrip()}\n\n{self.thinking.closing}\n\n"
        bos = self._vocabulary.bos
        return text if not self._vocabulary.adds_bos or not bos or text.startswith(bos) else bos + text

    def _find_shape(self, form: CallForm) -> Shape:
        tokens: dict[str, object] = {"bos_token": self._vocabulary.bos or "", "eos_token": self._vocabulary.eos or ""}

        def attempt(messages: list[Body], tools: list[Body] | None) -> str:
            variables = {**self._constants, "messages": messages, "add_generation_prompt": True}
            try:
                return self._sandbox.render(variables | ({"tools": tools} if tools else {}), _CHARACTERS_BESIDES)
            except TemplateFailed:
                return ""

        # Hugging Face gives None where there are no tools; some templates take only their absence.
        for constants in ({"tools": None, "documents": None}, {}):
            self._constants = tokens | constants
            shape = find_shape(attempt, form, self.thinking)
            if shape is not None:
                return shape
        raise TemplateUnusable

    def _try_marks(self) -> tuple[bool, bool]:
        """Whether marks come through a conversation with strings in all places, and whether the template glues."""
        job = _Job(PROBE, self.shape, None, _CHARACTERS_BESIDES)
        pieces = self._cut(job)
        try:
            if pieces is not None and prompt_text(pieces) == self._text(job, AS_IT_IS):
                return True, self._guard.glues(pieces)
        except TemplateFailed:
            pass
        return False, True
