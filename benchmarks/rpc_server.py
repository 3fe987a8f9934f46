"""`python -m benchmarks.rpc_server DATA`: what `benchmarks.rpc` measures, in a process of its own on one core.

Leadline's HTTP and gRPC servers with all checks on, over an engine that has its answer ready; and, with `--bare`, a
server of the gRPC library alone that sends messages of the same sizes.
"""

import argparse
import asyncio
import json
import os
from collections.abc import AsyncGenerator
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import uvicorn
import uvloop

from benchmarks.servers import LIMITS
from leadline.administration.commands.run import run
from leadline.administration.instance import Instance
from leadline.catalog.catalog import Catalog, Model
from leadline.catalog.prices import prices_of
from leadline.chat.events import ChatEvent, ChoiceFinished, Finished, Started, TextDelta, Usage
from leadline.chat.request import ChatRequest, Text
from leadline.config import Grpc, PriceSection
from leadline.dialects.xai.server import OPTIONS
from leadline.engines.engine import EngineStatus, ModelFacts, Token, Unneeded
from leadline.operations.app import build_pipeline, create_app
from leadline.operations.grpc import GrpcServer

MODEL = "ready"
# Of a stream; a whole answer comes in one batch.
MESSAGES = 200
STREAMED = "stream"
WHOLE_TOKENS = 16
# As large as Leadline's own.
WHOLE_BYTES, MESSAGE_BYTES = 250, 110
_WORD = " token"


class ReadyEngine:
    """Says the same whatever it is asked, `MESSAGES` tokens: at once, or one by one where the prompt is `STREAMED`."""

    name = "ready"
    status = EngineStatus(ready=True, detail="ready")

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def take(self) -> Unneeded:
        return Unneeded()

    def facts(self, model: str) -> ModelFacts:
        return ModelFacts(8192, frozenset(("chat",)), (model,))

    def leaves_room(self, request: ChatRequest) -> bool:
        return True

    def most_prompt_tokens(self, request: ChatRequest) -> int:
        return 64

    async def count_prompt_tokens(self, request: ChatRequest) -> int:
        return 16

    async def tokenize(self, model: str, text: str) -> tuple[Token, ...] | None:
        return None

    async def generate(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        yield (Started(16, 0),)
        if request.messages[-1].content == (Text(STREAMED),):
            for _ in range(MESSAGES):
                yield (TextDelta(_WORD),)
                await asyncio.sleep(0)
        else:
            yield (TextDelta(_WORD * WHOLE_TOKENS, WHOLE_TOKENS),)
        yield (ChoiceFinished("stop"), Finished(Usage(16, output_tokens=MESSAGES)))

    def embed(self, request: ChatRequest) -> AsyncGenerator[tuple[ChatEvent, ...], None]:
        raise NotImplementedError


async def serve_leadline(data: Path) -> None:
    (data / "leadline.toml").write_text(LIMITS, "utf-8")
    instance = await Instance.open(data)
    account = {"email": "alice@northwind.example", "org": "Northwind", "password": "correct horse"}
    made = await run(instance, "init", account | {"first": {"credit": "1000", "key": None}})
    prices = prices_of(PriceSection(input=Decimal(1), output=Decimal(1)))
    pipeline = build_pipeline(instance, Catalog([Model(MODEL, ReadyEngine(), MODEL, prices, 512)]))
    app = create_app(instance, pipeline)
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="httptools", ws="none", lifespan="off", log_config=None))
    rpcs = await GrpcServer.start(pipeline, ("127.0.0.1",), 0, Grpc())
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    _tell(port=port, grpc_port=rpcs.port, api_key=made["api_key"])
    await serving


async def serve_bare() -> None:
    """The same calls, answered by nothing but the library: the messages are there beforehand."""
    whole, message = b"w" * WHOLE_BYTES, b"m" * MESSAGE_BYTES

    async def unary(_: bytes, context: Any) -> bytes:
        return whole

    async def stream(_: bytes, context: Any) -> None:
        for _number in range(MESSAGES):
            await context.write(message)
            await asyncio.sleep(0)

    handlers: dict[str, Any] = {
        "GetCompletion": grpc.unary_unary_rpc_method_handler(unary),
        "GetCompletionChunk": grpc.unary_stream_rpc_method_handler(stream),
    }
    server = grpc.aio.server(
        handlers=(grpc.method_handlers_generic_handler("xai_api.Chat", handlers),), options=OPTIONS
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    _tell(port=0, grpc_port=port, api_key="")
    await server.wait_for_termination()


def _tell(**facts: object) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.rpc_server", description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_bare() if options.bare else serve_leadline(options.data))


if __name__ == "__main__":
    main()
