"""One call of the management API: who makes it, what its path names, and what it brings."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from leadline.accounts.actor import Actor
from leadline.accounts.management_keys import ManagementKey
from leadline.administration.instance import Instance
from leadline.errors import InvalidRequest, NotFound
from leadline.management.wire import Json
from leadline.serving.pipeline import Pipeline
from leadline.web.exchange import Exchange
from leadline.web.strict_json import convert, parse

LARGEST_BODY_BYTES = 1024 * 1024
_MOST_PARAMETERS = 200
_Body = TypeVar("_Body")


@dataclass(frozen=True, slots=True)
class Call:
    """`names` are what the path names, such as `api_key_id`. What takes long waits for its turn at `heavy`, what must
    not happen twice at once waits at `one_by_one`."""

    instance: Instance
    pipeline: Pipeline
    exchange: Exchange
    key: ManagementKey
    address: str
    heavy: asyncio.Semaphore
    one_by_one: asyncio.Lock
    names: dict[str, str] = field(default_factory=dict)

    @property
    def organisation_id(self) -> str:
        return self.key.organisation_id

    @property
    def actor(self) -> Actor:
        """What it changes was changed by the key, in the name of its owner."""
        return Actor(f"llm_{self.key.id}", f"management key “{self.key.name}”", self.address, self.key.owner_id)

    def refuse_other_team(self) -> None:
        """A key knows its own organisation: to it no other one is there."""
        team = self.names.get("team_id")
        if team is not None and team not in (self.organisation_id, "default"):
            raise NotFound("This management key belongs to another team, or there is no such team.")

    def query(self) -> list[tuple[str, str]]:
        """The parameters in the URL, in camelCase. `name[]` is another spelling of `name`."""
        raw = self.exchange.scope["query_string"].decode("latin-1")
        try:
            pairs = parse_qsl(raw, keep_blank_values=True, max_num_fields=_MOST_PARAMETERS, errors="strict")
        except ValueError:
            raise InvalidRequest(
                f"The query of the URL is no text, or has over {_MOST_PARAMETERS} parameters."
            ) from None
        return [(camel_case(name.removesuffix("[]")), value) for name, value in pairs]

    def parameter(self, name: str) -> str | None:
        """The last one of this name; an empty one counts as absent."""
        return next((value for other, value in reversed(self.query()) if other == name and value), None)

    async def body(self, kind: type[_Body]) -> _Body:
        """The body, whose fields may be written in camelCase or as the protocol buffers name them."""
        value = camel_cased(parse(await self.exchange.json_body(LARGEST_BODY_BYTES)))
        converted: _Body = convert(value, kind, "")
        return converted


Endpoint = Callable[[Call], Awaitable[Json]]
# By method and path: the operation that a management key's ACLs must permit (nothing: any key may), and what answers.
Routes = dict[tuple[str, str], tuple[str, Endpoint]]


class Body(msgspec.Struct, rename="camel", frozen=True):
    """What decodes a request."""


def camel_case(name: str) -> str:
    """`a_name.of_two` as `aName.ofTwo`."""
    first, *more = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in more)


def camel_cased(value: object) -> object:
    """The value with the keys of its objects in camelCase. InvalidRequest where two of them are one then."""
    if isinstance(value, list):
        return [camel_cased(one) for one in value]
    if isinstance(value, dict):
        named = {camel_case(key): camel_cased(one) for key, one in value.items()}
        if len(named) != len(value):
            raise InvalidRequest("An object of the body has a key in two spellings.")
        return named
    return value
