"""A conversation that grew too long, as its summary: made by a model, sealed, and given back to its owner to keep.

Instructions stay as they are. What the client sends back is opaque to him, and opens only for his organisation.
"""

from base64 import b64decode, b64encode

from leadline.chat.collect import Choice
from leadline.chat.request import ChatRequest, Message, Text
from leadline.serving.codec import decode, encode
from leadline.serving.stored import StoredAnswers

MOST_SUMMARY_TOKENS = 1024
_ASK = (
    "Summarize our conversation up to here, so that it can be continued from your summary alone. Keep every fact, name,"
    " number, decision and open question. Write only the summary."
)
_BEFORE = "This is what was said up to here:\n\n"


def compaction_request(model: str, messages: tuple[Message, ...]) -> ChatRequest:
    """What asks `model` for the summary."""
    return ChatRequest(model, (*messages, Message("user", (Text(_ASK),))), MOST_SUMMARY_TOKENS)


def seal_context(
    stored: StoredAnswers, organisation_id: str, messages: tuple[Message, ...], summary: Choice
) -> tuple[str, int]:
    """The compacted context, sealed, and how many messages it stands for."""
    said = "".join(block.text for block in summary.content if isinstance(block, Text))
    kept = tuple(message for message in messages if message.role == "system")
    context = (*kept, Message("user", (Text(_BEFORE + said),)))
    sealed = stored.sealer.seal(encode(ChatRequest("", context)), _place(organisation_id))
    return b64encode(sealed).decode(), len(messages) - len(kept)


def open_context(stored: StoredAnswers, organisation_id: str, sealed: str) -> tuple[Message, ...] | None:
    """The messages that take the conversation's place; None where it is not ours, or not this organisation's."""
    try:
        content = stored.sealer.open(b64decode(sealed, validate=True), _place(organisation_id))
    except ValueError:
        return None
    return None if content is None else decode(content, ChatRequest).messages


def _place(organisation_id: str) -> str:
    return f"context {organisation_id}"
