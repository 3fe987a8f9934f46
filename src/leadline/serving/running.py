"""The generations that run now: their checkpoints, and their end where their key is revoked."""

import asyncio
import logging
from dataclasses import dataclass, field

from leadline.accounts.keys import ApiKeys
from leadline.chat.events import Usage
from leadline.errors import LeadlineError, Unauthenticated
from leadline.ledger.ledger import Ledger
from leadline.serving.generation import Generation
from leadline.serving.pace import Pace

# A crash loses at most what streams deliver in this time, on the operator's side.
TICK_SECONDS = 1.0
_log = logging.getLogger("leadline.serving")


@dataclass(slots=True)
class Running:
    keys: ApiKeys
    ledger: Ledger
    pace: Pace = field(default_factory=Pace)
    # What each had used when it was looked at last.
    _generations: dict[Generation, Usage | None] = field(default_factory=dict)

    def begin(self, generation: Generation) -> Generation:
        """Watch over `generation` until it has ended."""
        self._generations[generation] = None
        generation.ended = self._end
        return generation

    def live(self, model: str) -> int:
        """How many requests that are of no batch run on `model`, or wait for their turn there."""
        return sum(generation.model == model and not generation.batched for generation in self._generations)

    def running(self, model: str) -> int:
        """How many requests run on `model`, those of batches among them."""
        return sum(generation.model == model for generation in self._generations)

    def streams(self, model: str) -> int:
        """How many of them are streams."""
        return sum(generation.model == model and generation.streams for generation in self._generations)

    def tokens_by_second(self, model: str) -> tuple[int, ...]:
        """What `model` made in each of the last seconds."""
        return self.pace.by_second(model)

    def tokens_per_second(self, model: str) -> float:
        return self.pace.per_second(model)

    def _end(self, generation: Generation) -> None:
        if generation in self._generations:
            del self._generations[generation]
            self.pace.ended(generation.model, _made(generation.usage))

    async def watch(self) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            try:
                await self.tick()
            except LeadlineError as error:
                _log.warning("a tick failed", extra={"why": str(error)})
            except Exception:
                _log.exception("a tick failed")

    async def tick(self) -> None:
        """Remember how far each stream is, end those of revoked keys, and let the ledger do what is due."""
        self._stop_revoked()
        self.pace.tick((generation.model, _made(generation.usage)) for generation in self._generations)
        await self._checkpoint()
        await self.ledger.tick()

    def _stop_revoked(self) -> None:
        for generation in list(self._generations):
            key = self.keys.find_caller(generation.hold.key_id)
            if key is None or key.revoked_at is not None:
                generation.stop(Unauthenticated("The API key of this request was revoked while it ran."))

    async def _checkpoint(self) -> None:
        moved = {
            generation: generation.usage
            for generation, before in self._generations.items()
            if generation.streams and generation.usage != (before or Usage())
        }
        if moved:
            await self.ledger.checkpoint([generation.progress() for generation in moved])
            # Those that ended meanwhile have left.
            self._generations |= {one: usage for one, usage in moved.items() if one in self._generations}


def _made(usage: Usage) -> int:
    return usage.output_tokens + usage.reasoning_tokens
