"""Answers that are kept for their owner, who fetches them by their request's id: encrypted, and deleted at their term.

They are kept in no dialect's words, so that each dialect finds what another one made. An id is found in each of its
spellings, and only by the organisation whose it is: anybody else's does not exist.
"""

import re
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import ChatEvent
from leadline.clock import MICROSECONDS_PER_DAY, Clock
from leadline.errors import LeadlineError
from leadline.ledger.books import INSERT_STORED, Stored
from leadline.serving.codec import KeptAnswer, KeptError, decode, encode
from leadline.serving.generation import Generation
from leadline.storage.database import Conflict, Database, Write
from leadline.storage.sealed import Sealer

Kind = Literal["response", "deferred"]

KEPT_MICROSECONDS: dict[Kind, int] = {"response": 30 * MICROSECONDS_PER_DAY, "deferred": MICROSECONDS_PER_DAY}
# A larger answer is not kept.
LARGEST_BYTES = 16 * 1024 * 1024
# Expired ones are deleted so many at a time, so that a commit stays short.
_PRUNED_AT_ONCE = 500
_SPELLINGS = re.compile(r"(?:resp_|msg_)?([0-9a-f]{32})|([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})", re.IGNORECASE)


@dataclass(slots=True)
class StoredAnswers:
    database: Database
    sealer: Sealer
    clock: Clock

    def keep(
        self,
        generation: Generation,
        kind: Kind,
        kept_with: Callable[[tuple[ChatEvent, ...]], KeptAnswer | None],
        too_large: LeadlineError | None = None,
    ) -> None:
        """Keep the answer of `generation` in one commit with its charge. `kept_with` gives it from the last batch;
        None: it is not kept after all. One above `LARGEST_BYTES` is not kept either, or raises `too_large`."""
        organisation_id, answer_id = generation.hold.organisation_id, generation.hold.request_id

        def kept(batch: tuple[ChatEvent, ...]) -> Stored | None:
            answer = kept_with(batch)
            content = b"" if answer is None else encode(answer)
            generation.is_kept = 0 < len(content) <= LARGEST_BYTES
            if content and not generation.is_kept and too_large is not None:
                raise too_large
            return self._sealed(organisation_id, kind, answer_id, content) if generation.is_kept else None

        generation.keepers.append(kept)

    async def put(self, generation: Generation, kind: Kind, kept: KeptAnswer | KeptError) -> None:
        """Keep something in a commit of its own. What is there already stays."""
        organisation_id, answer_id = generation.hold.organisation_id, generation.hold.request_id
        stored = self._sealed(organisation_id, kind, answer_id, encode(kept))
        row = answer_id, organisation_id, kind, stored.at, stored.expires_at, stored.content
        await self.database.commit(Write(f"{INSERT_STORED} ON CONFLICT (id, kind) DO NOTHING", row, rows=None))

    async def find(self, organisation_id: str, kind: Kind, spelled_id: str) -> KeptAnswer | None:
        """The answer, or None where there is none for this organisation. Raises the error that is kept in its place."""
        answer_id = known_id(spelled_id)
        if answer_id is None:
            return None
        rows = await self.database.rows(
            "SELECT content FROM stored_answers"
            " WHERE id = $1 AND organisation_id = $2 AND kind = $3 AND expires_at > $4",
            *(answer_id, organisation_id, kind, self.clock()),
        )
        content = self.sealer.open(rows[0][0], _place(organisation_id, kind, answer_id)) if rows else None
        if content is None:
            return None
        kept = decode(content, KeptAnswer, KeptError)
        if isinstance(kept, KeptError):
            raise kept.rebuilt()
        return kept

    async def delete(self, organisation_id: str, kind: Kind, spelled_id: str) -> bool:
        """False where there is none, or somebody deleted it meanwhile: of several who delete one only the first hears
        True."""
        write = Write(
            "DELETE FROM stored_answers WHERE id = $1 AND organisation_id = $2 AND kind = $3 AND expires_at > $4",
            (known_id(spelled_id), organisation_id, kind, self.clock()),
        )
        try:
            await self.database.commit(write)
        except Conflict:
            return False
        return True

    def seal_reasoning(self, organisation_id: str, text: str) -> str:
        """What a model thought, for its owner to keep and send back."""
        return b64encode(self.sealer.seal(text.encode(), f"reasoning {organisation_id}")).decode()

    def open_reasoning(self, organisation_id: str, sealed: str) -> str | None:
        """None where it is not ours, or not this organisation's."""
        try:
            text = self.sealer.open(b64decode(sealed, validate=True), f"reasoning {organisation_id}")
        except ValueError:
            return None
        return text.decode() if text is not None else None

    async def prune(self) -> None:
        """Delete the answers whose term is over."""
        now = self.clock()
        while True:
            expired = await self.database.rows(
                "SELECT id, kind FROM stored_answers WHERE expires_at <= $1 LIMIT $2", now, _PRUNED_AT_ONCE
            )
            sql = "DELETE FROM stored_answers WHERE id = $1 AND kind = $2"
            deletions = [Write(sql, row, rows=None) for row in expired]
            if deletions:
                await self.database.commit(*deletions)
            if len(deletions) < _PRUNED_AT_ONCE:
                return

    def _sealed(self, organisation_id: str, kind: Kind, answer_id: str, content: bytes) -> Stored:
        assert len(content) <= LARGEST_BYTES, "nothing larger is kept"
        now = self.clock()
        sealed = self.sealer.seal(content, _place(organisation_id, kind, answer_id))
        return Stored(kind, sealed, now, now + KEPT_MICROSECONDS[kind])


def kept_of(generation: Generation, answer: ChatAnswer, notes: Mapping[str, bytes]) -> KeptAnswer:
    """What is kept of `generation`, once its last batch is there."""
    return KeptAnswer(
        request_id=generation.request_id,
        created_at=generation.created_at,
        model=generation.model,
        requested_model=generation.requested_model,
        fingerprint=generation.fingerprint,
        cost_ticks=generation.cost_ticks,
        conversation=generation.conversation,
        answer=answer,
        notes=notes,
    )


def known_id(spelled: str) -> str | None:
    """The id as the ledger has it. It may come as a bare UUID, or as `resp_` or `msg_` and its hex digits."""
    found = _SPELLINGS.fullmatch(spelled)
    return str(uuid.UUID(found.group(1) or found.group(2))) if found else None


def _place(organisation_id: str, kind: Kind, answer_id: str) -> str:
    return f"stored_answers {organisation_id} {kind} {answer_id}"
