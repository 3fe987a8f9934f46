"""What the playground's script sends: a conversation and its settings, as a request to run or as code to show."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from leadline.chat.request import Block, ChatRequest, Image, JsonFormat, Message, Sampling, Text
from leadline.console.snippets import Ask, Turn
from leadline.errors import InvalidRequest
from leadline.serving.pictures import MOST_IMAGES

_MOST_TURNS = 2_000


class Said(msgspec.Struct):
    """One turn, with its pictures as `data:` URLs."""

    role: Literal["user", "assistant"]
    text: str
    images: list[str] = []


class Conversation(msgspec.Struct, kw_only=True):
    """Settings that are not named are the model's."""

    model: Annotated[str, Meta(min_length=1, max_length=200)]
    turns: Annotated[list[Said], Meta(max_length=_MOST_TURNS)]
    system: str = ""
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    stream: bool = True
    json: bool = False

    def request(self) -> ChatRequest:
        """As the pipeline runs it, or InvalidRequest."""
        if not self.turns or self.turns[-1].role != "user":
            raise InvalidRequest("Write a message first: the last one has to be yours.", "turns")
        if sum(len(turn.images) for turn in self.turns) > MOST_IMAGES:
            raise InvalidRequest(f"A conversation may hold {MOST_IMAGES} pictures at most. Delete some.", "images")
        system = (Message("system", (Text(self.system),)),) if self.system else ()
        return ChatRequest(
            model=self.model,
            messages=(*system, *(_message(turn) for turn in self.turns)),
            max_output_tokens=self.max_tokens,
            sampling=Sampling(
                temperature=1.0 if self.temperature is None else self.temperature,
                top_p=1.0 if self.top_p is None else self.top_p,
            ),
            json_format=JsonFormat() if self.json else None,
        )

    def ask(self) -> Ask:
        """As programs ask it."""
        turns = [Turn(turn.role, turn.text, tuple(turn.images)) for turn in self.turns]
        return Ask(
            self.model,
            turns or [Turn("user", "Hello")],
            system=self.system,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            json_answer=self.json,
            stream=self.stream,
        )


def _message(turn: Said) -> Message:
    """Pictures come before what is said of them. Only `data:` URLs: the playground makes nobody fetch anything."""
    for url in turn.images:
        if not url.startswith("data:image/"):
            raise InvalidRequest("A picture has to be attached, not linked.", "images")
    images: tuple[Block, ...] = tuple(Image(url) for url in turn.images)
    if turn.role == "assistant" and images:
        raise InvalidRequest("Only your own messages may hold pictures.", "images")
    return Message(turn.role, images + ((Text(turn.text),) if turn.text or not images else ()))
