"""An organisation with weeks of use behind it, for pages that show what was used."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from leadline.accounts.actor import COMMAND_LINE
from leadline.catalog.prices import Prices
from leadline.chat.events import Usage
from leadline.clock import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from leadline.ledger.books import Hold, Outcome
from leadline.ledger.usage import Status, UsageRecord
from leadline.money import Ticks, usd
from leadline.storage.database import Write
from tests.scripted.server import ScriptedServer
from tests.unit.ledger.scenes import id_at

MODELS = ("qwen3-4b-instruct", "gemma-3-12b-vision", "llama-3.3-70b", "nomic-embed-text", "grok-mini", "phi-4", "odd")
ENDPOINTS = ("/v1/chat/completions", "/v1/messages", "/v1/responses")
CONFIGURATION = '[[engines]]\nname = "gpu"\nkind = "openai"\nurl = "http://127.0.0.1:9/v1"\n' + "".join(
    f'[[models]]\nname = "{name}"\nengine = "gpu"\nupstream_model = "{"embed" if "embed" in name else "echo"}"\n'
    f'context_tokens = {4096 * (place + 1)}\naliases = ["{name}-latest"]\n'
    f"prices = {{ input = {place + 1}.25, cached_input = 0.{place + 1}, output = {3 * place + 2}.00, image = 2.5"
    f"{', long_context_threshold = 900, input_long_context = 9.5' if place == 2 else ''} }}\n"
    for place, name in enumerate(MODELS)
)


def configured(folder: Path) -> ScriptedServer:
    """A server with MODELS beside the scripts."""
    folder.mkdir()
    (folder / "leadline.toml").write_text(CONFIGURATION, "utf-8")
    return ScriptedServer(folder)


@dataclass(frozen=True)
class Past:
    """Requests of the last `days` days, `each_day` of every model's, and fewer of those that come later."""

    server: ScriptedServer
    days: int = 30
    each_day: int = 3

    def make(self) -> list[UsageRecord]:
        return self.server.run(self._make())

    async def _make(self) -> list[UsageRecord]:
        instance = self.server.instance
        # Prices that hold since long ago, so that every class of tokens has its part of the costs.
        await instance.database.commit(Write("UPDATE prices SET effective_from = 1", rows=None))
        await instance.prices.load()
        await instance.ledger.grant(self.server.organisation_id, usd("5000"), "for the past")
        for name in ("web-production", "support-summaries"):
            await instance.keys.create(self.server.organisation_id, name, COMMAND_LINE)
        records = list(self._records())
        for record in records:
            if record.status == "refused":
                instance.ledger.note(record)
                continue
            hold = Hold(
                *(record.request_id, record.organisation_id, record.key_id, record.model, record.endpoint),
                ticks=Ticks(record.cost_ticks),
                opened_at=record.began_at,
            )
            instance.ledger.reserve(hold)
            await instance.ledger.settle(hold, lambda record=record: Outcome(record))  # type: ignore[misc]
        await instance.ledger.write_noted()
        return records

    def _records(self) -> Iterator[UsageRecord]:
        """The newest last. One of eleven did not end well."""
        instance, chance, number = self.server.instance, random.Random(7), 0
        keys = [key.id for key in instance.keys.of(self.server.organisation_id)]
        now = instance.keys.clock()
        endings: list[tuple[Status, str]] = [
            ("refused", "rate_limited"),
            ("failed", "engine_failed"),
            ("interrupted", "client_gone"),
            ("refused", "insufficient_credits"),
            ("refused", "permission_denied"),
        ]
        for day in range(self.days - 1, -1, -1):
            for place, model in enumerate(MODELS):
                for _ in range(max(1, self.each_day - place)):
                    number += 1
                    at = now - day * MICROSECONDS_PER_DAY - chance.randrange(1, MICROSECONDS_PER_HOUR // 2)
                    status, error = endings[number // 11 % len(endings)] if number % 11 == 0 else ("finished", "")
                    usage = self._usage(chance, place) if status in ("finished", "interrupted") else Usage()
                    prices = instance.prices.at(model, at)
                    yield UsageRecord(
                        *(self.server.organisation_id, id_at(at, number), at, at + 1_500_000),
                        *(keys[number % len(keys)], model, ENDPOINTS[number % len(ENDPOINTS)]),
                        *(status, error, bool(number % 2), usage, self._cost(prices, usage)),
                        first_token_milliseconds=180 + number % 400 if usage.output_tokens else None,
                        total_milliseconds=1500 + number * 37 % 9000 if status != "refused" else 0,
                    )

    def _usage(self, chance: random.Random, place: int) -> Usage:
        prompt = chance.randrange(200, 90_000)
        image = prompt // 4 if place == 1 else 0
        return Usage(prompt, prompt // 3, image, chance.randrange(20, 4_000), 50 if place == 4 else 0)

    def _cost(self, prices: Prices, usage: Usage) -> int:
        return prices.cost(usage)
