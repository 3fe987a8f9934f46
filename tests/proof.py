"""What the proofs share: how often they try, the figures that they leave, and a client that asks many things at once.

`python -m tests.proof` prints the figures of the last run.
"""

import asyncio
import json
import re
import socket
import statistics
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import settings

from tests.raw import DEADLINE_SECONDS, Answer, head, parse

CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
DIALECTS = {CHAT: "openai", MESSAGES: "anthropic", RESPONSES: "responses"}
_FIGURES = Path(__file__).parents[1] / ".cache" / "proofs"
_COST = re.compile(rb'"cost_in_usd_ticks":(\d+)[,}]')


def count(suite: int, proof: int) -> int:
    """How often: `make proof` takes its time, `make check` a quarter of the suite's."""
    return {"proof": proof, "check": suite // 4}.get(settings.get_current_profile_name(), suite)


def keep(name: str, **figures: Any) -> None:
    """Leave the figures of a proof in `.cache/proofs/`."""
    _FIGURES.mkdir(parents=True, exist_ok=True)
    figures = {"profile": settings.get_current_profile_name()} | figures
    (_FIGURES / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")


def share(values: Sequence[float], part: float) -> float:
    """The value that `part` of all `values` do not exceed."""
    return sorted(values)[max(0, int(len(values) * part + 0.999999) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    ends = {"least": min(values), "median": statistics.median(values), "most": max(values)}
    return {name: round(value, 3) for name, value in ends.items()}


class Asked(asyncio.Protocol):
    """One request on a connection of its own. `on_data` is told of each piece of the answer."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.on_data: Callable[[Asked], None] = lambda _: None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        self.on_data(self)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has come."""
        return b"\r\n\r\n" in self.received

    @property
    def answer(self) -> Answer:
        return parse(bytes(self.received))

    @property
    def acknowledged_ticks(self) -> int | None:
        """The cost that the answer told, if it came that far."""
        told = _COST.search(self.received)
        return int(told[1]) if told else None

    async def to_end(self) -> Answer:
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.ended
        return self.answer

    def close(self) -> None:
        self.transport.close()

    def reset(self) -> None:
        """Break the connection off: the server gets a RST."""
        linger = struct.pack("ii", 1, 0)
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.transport.abort()


async def ask(port: int, path: str, key: str, body: dict[str, Any], **headers: str) -> Asked:
    """Send a JSON request; the answer comes as it comes."""
    _, asked = await asyncio.get_running_loop().create_connection(Asked, "127.0.0.1", port)
    encoded = json.dumps(body).encode()
    asked.transport.write(head(path, key, len(encoded), content_type="application/json", **headers) + encoded)
    return asked


def main() -> None:
    for path in sorted(_FIGURES.glob("*.json")):
        figures = json.loads(path.read_text("utf-8"))
        print(f"{path.stem} ({figures.pop('profile')})")
        for name, value in figures.items():
            print(f"  {name.replace('_', ' '):<44}{value}")


if __name__ == "__main__":
    main()
