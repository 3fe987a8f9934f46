"""Responses that are stored: what is kept of one, how it is found, and the conversation that goes on with it."""

import uuid
from typing import Any

import msgspec

from leadline.dialects.responses.items import (
    Item,
    ItemReference,
    ReasoningItem,
    ReasoningText,
    encode_item,
    new_item_id,
    origin_of,
)
from leadline.dialects.responses.output import steps_of
from leadline.dialects.responses.stream import EventWriter
from leadline.errors import InvalidRequest, NotFound, PreviousResponseNotFound
from leadline.serving.pipeline import Caller, Pipeline
from leadline.serving.stored import LARGEST_BYTES

Json = dict[str, Any]
# The items of one request may refer to so many responses that have to be looked up.
MOST_LOOKED_UP = 16


class StoredResponse(msgspec.Struct):
    """A response, all items that it answered, and of each item of its output how it was cut into deltas: characters
    and log probabilities of each."""

    response: Json
    conversation: list[Json]
    sizes: list[list[tuple[int, int]]]

    @property
    def items(self) -> list[Json]:
        """The conversation up to and with the answer."""
        return [*self.conversation, *self.response["output"]]

    def events(self) -> list[bytes]:
        """The events in which the response was streamed, or would have been."""
        events, response = EventWriter(), self.response
        begun = response | {"completed_at": None, "status": "in_progress", "incomplete_details": None}
        begun |= {"output": [], "usage": None}
        told = events.begin(begun)
        for step in steps_of(response["output"], self.sizes):
            told += events.step(step)
        return [*told, events.write(f"response.{response['status']}", {"response": response})]


def encode_stored(stored: StoredResponse) -> bytes | None:
    """None where it is too large to be kept."""
    content = msgspec.json.encode(stored)
    return content if len(content) <= LARGEST_BYTES else None


async def find_response(pipeline: Pipeline, caller: Caller, response_id: str) -> StoredResponse | None:
    content = await pipeline.find_stored(caller, "response", response_id)
    return None if content is None else msgspec.json.decode(content, type=StoredResponse)


async def conversation_of(
    pipeline: Pipeline,
    caller: Caller,
    request_id: uuid.UUID,
    items: list[Item | ItemReference],
    previous_id: str | None,
) -> list[Json]:
    """All items that a request asks about, each with its id: those of the response before it, then its own `items`."""
    conversation: list[Json] = []
    if previous_id is not None:
        previous = await find_response(pipeline, caller, previous_id)
        if previous is None:
            raise PreviousResponseNotFound(
                f"previous_response_id: there is no stored response {previous_id[:100]}. It is older than 30 days, was"
                " deleted or not stored, or never was."
            )
        conversation = previous.items
    for item in items:
        if isinstance(item, ReasoningItem) and item.encrypted_content is not None:
            opened = pipeline.stored.open_reasoning(caller.organisation_id, item.encrypted_content)
            item.content = [ReasoningText(opened)] if opened else item.content
            item.encrypted_content = None
    known = {item["id"]: item for item in conversation}
    ids = set(known)
    await _look_up(pipeline, caller, items, known)
    for number, item in enumerate(items):
        if isinstance(item, ItemReference):
            encoded = known[item.id]
            if encoded["id"] in ids:
                encoded = encoded | {"id": new_item_id(encoded["type"], request_id, f"i{number}")}
        else:
            kind = str(item.__struct_config__.tag)
            encoded = encode_item(item, new_item_id(kind, request_id, f"i{number}"))
        ids.add(encoded["id"])
        conversation.append(encoded)
    return conversation


async def _look_up(pipeline: Pipeline, caller: Caller, items: list[Any], known: dict[str, Json]) -> None:
    """Add what is referred to, to what is `known`. The last one comes first: with its response those before it are
    stored, too."""
    looked_up: set[str] = set()
    for number, item in reversed(list(enumerate(items))):
        if not isinstance(item, ItemReference) or item.id in known:
            continue
        origin = origin_of(item.id)
        if origin not in looked_up:
            looked_up.add(origin)
            if len(looked_up) > MOST_LOOKED_UP:
                raise InvalidRequest(
                    f"The items refer to more than {MOST_LOOKED_UP} stored responses. Send previous_response_id, or the"
                    " items themselves.",
                    "input",
                )
            found = await find_response(pipeline, caller, origin)
            known.update({item["id"]: item for item in found.items} if found is not None else {})
        if item.id not in known:
            raise NotFound(f"input[{number}].id: there is no stored item {item.id[:100]}.")
