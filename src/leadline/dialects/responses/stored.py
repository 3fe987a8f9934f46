"""Responses that are stored: how one is found, and the conversation that goes on with it."""

import uuid
from typing import Any

from leadline.dialects.responses.items import (
    Item,
    ItemReference,
    ReasoningItem,
    ReasoningText,
    encode_item,
    new_item_id,
    origin_of,
)
from leadline.dialects.responses.kept import StoredResponse, stored_response
from leadline.errors import InvalidRequest, NotFound, PreviousResponseNotFound
from leadline.serving.pipeline import Caller, Pipeline

Json = dict[str, Any]
# The items of one request may refer to so many responses that have to be looked up.
MOST_LOOKED_UP = 16


async def find_response(pipeline: Pipeline, caller: Caller, response_id: str) -> StoredResponse | None:
    kept = await pipeline.find_stored(caller, "response", response_id)
    return None if kept is None else stored_response(kept)


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
