"""`python -m benchmarks.affinity`: conversations over three workers, with prefix affinity and without, in turn.

Each conversation belongs to one of a few organisations, whose system prompt it begins with, and asks its next question
once it has its answer. The workers are scripted: each reads prompts one after another, of each only what is not in its
cache, which is bounded and forgets what was longest unused. With `--real` they are three `leadline serve` with
llama.cpp and the default model, of one thread each. Cached tokens are what the workers say; first tokens are timed.
"""

import argparse
import asyncio
import hashlib
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.report import Machine
from benchmarks.servers import prepare, serving, until_ready
from leadline.chat.events import Finished, TextDelta
from leadline.chat.request import ChatRequest, Message, Text
from leadline.engines.pool.engine import Members, PoolEngine
from leadline.errors import LeadlineError

_WORKERS = 3
_HOST = "127.0.0.1"
_BYTES_PER_TOKEN = 4
_READ_TOKENS_PER_SECOND = 2000.0
_TOKEN_SECONDS = 0.02
# Room for less than a third of all conversations and their answers.
_CACHE_TOKENS = 24_000
_READY_SECONDS = 60.0
_MODEL = "smollm2-135m-instruct"


@dataclass(frozen=True, slots=True)
class Trace:
    """`conversations` at once, of `turns` each, on `organisations` system prompts; sizes are in tokens."""

    organisations: int
    conversations: int
    turns: int
    system_tokens: int
    question_tokens: int
    answer_tokens: int


SCRIPTED = Trace(4, 24, 6, system_tokens=600, question_tokens=250, answer_tokens=32)
REAL = Trace(2, 6, 4, system_tokens=200, question_tokens=80, answer_tokens=16)


@dataclass(frozen=True, slots=True)
class Answer:
    first_token_seconds: float
    prompt_tokens: int
    cached_tokens: int
    turn: int


@dataclass(slots=True)
class ScriptedWorker:
    """An OpenAI-compatible server that takes the time of a model, and computes nothing."""

    url: str = ""
    _reading: asyncio.Lock = field(default_factory=asyncio.Lock)
    _cache: "OrderedDict[bytes, int]" = field(default_factory=OrderedDict)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["ScriptedWorker"]:
        server = await asyncio.start_server(self._serve, _HOST, 0)
        self.url = f"http://{_HOST}:{server.sockets[0].getsockname()[1]}/v1"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                lengths = [line for line in head.split("\r\n") if line.startswith("content-length:")]
                body = await reader.readexactly(int(lengths[0].partition(":")[2])) if lengths else b""
                if not body:
                    models = json.dumps({"data": [{"id": _MODEL}]}).encode()
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                    writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(models), models))
                else:
                    await self._answer(json.loads(body), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        sizes = list(_beginnings(request["messages"]))
        prompt_tokens = sizes[-1][1]
        async with self._reading:
            cached = max((tokens for digest, tokens in sizes if digest in self._cache), default=0)
            await asyncio.sleep((prompt_tokens - cached) / _READ_TOKENS_PER_SECOND)
            self._keep(sizes)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(request["max_tokens"]):
            _write(writer, {"choices": [{"index": 0, "delta": {"content": "word"}}]})
            await asyncio.sleep(_TOKEN_SECONDS)
        usage = {"prompt_tokens": prompt_tokens, "completion_tokens": request["max_tokens"]}
        details = {"prompt_tokens_details": {"cached_tokens": min(cached, prompt_tokens - 1)}}
        _write(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage | details})
        writer.write(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n")

    def _keep(self, sizes: list[tuple[bytes, int]]) -> None:
        """Each message is a piece of the cache. The last ones go first: without those before them they are no use."""
        for digest, tokens in reversed(sizes):
            self._cache[digest] = tokens
            self._cache.move_to_end(digest)
        while sum(map(self._own, self._cache)) > _CACHE_TOKENS:
            self._cache.popitem(last=False)

    @staticmethod
    def _own(digest: bytes) -> int:
        """The tokens of its last message."""
        return int.from_bytes(digest[-4:], "big")


def _beginnings(messages: list[dict[str, Any]]) -> Iterator[tuple[bytes, int]]:
    """A digest of each beginning of the conversation, which ends in the size of its last message, and its tokens."""
    hasher, tokens = hashlib.blake2b(digest_size=16), 0
    for message in messages:
        text = f"{message['role']}\0{message['content']}\0"
        hasher.update(text.encode())
        own = len(text) // _BYTES_PER_TOKEN
        tokens += own
        yield hasher.digest() + own.to_bytes(4, "big"), tokens


def _write(writer: asyncio.StreamWriter, chunk: dict[str, Any]) -> None:
    line = b"data: " + json.dumps(chunk).encode() + b"\n\n"
    writer.write(b"%x\r\n%b\r\n" % (len(line), line))


async def conversation(pool: PoolEngine, trace: Trace, number: int, round_: int) -> list[Answer]:
    """All turns of one, each asked at once after the last answer."""
    organisation = number % trace.organisations
    messages = [Message("system", (Text(_words(f"organisation {organisation} in {round_}", trace.system_tokens)),))]
    answers = []
    for turn in range(trace.turns):
        question = _words(f"question {turn} of conversation {number} in {round_}", trace.question_tokens)
        messages.append(Message("user", (Text(question),)))
        request = ChatRequest(
            _MODEL, tuple(messages), max_output_tokens=trace.answer_tokens, cache_scope=f"org-{organisation}"
        )
        began, first, said = time.perf_counter(), 0.0, ""
        async with aclosing(pool.generate(request)) as batches:
            async for batch in batches:
                for event in batch:
                    if isinstance(event, TextDelta):
                        first = first or time.perf_counter() - began
                        said += event.text
                    elif isinstance(event, Finished):
                        answers.append(Answer(first, event.usage.prompt_tokens, event.usage.cached_tokens, turn))
        messages.append(Message("assistant", (Text(said or "Yes."),)))
    return answers


def _words(what: str, tokens: int) -> str:
    """Text of about so many tokens, which begins as nothing else does."""
    digest = hashlib.sha256(what.encode()).hexdigest()
    text = f"{digest[:8]} {what}. "
    return (text + "and so it goes on, " * tokens)[: tokens * _BYTES_PER_TOKEN]


async def run_trace(urls: list[str], api_key: str | None, trace: Trace, round_: int, *, affinity: bool) -> list[Answer]:
    pool = PoolEngine("workers", "openai", Members(tuple(urls)), api_key, affinity=affinity)
    await pool.start()
    try:
        async with asyncio.timeout(_READY_SECONDS):
            while sum(one.state == "ready" for one in pool.status.workers) < len(urls):
                await asyncio.sleep(0.01)
        # The rounds differ in every word: none finds anything of another one in a cache.
        told = 2 * round_ + affinity
        each = await asyncio.gather(*(conversation(pool, trace, number, told) for number in range(trace.conversations)))
        return [answer for answers in each for answer in answers]
    finally:
        await pool.close()


@asynccontextmanager
async def scripted() -> AsyncIterator[tuple[list[str], None]]:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(ScriptedWorker().listening()) for _ in range(_WORKERS)]
        yield [worker.url for worker in workers], None


@asynccontextmanager
async def real(folder: Path) -> AsyncIterator[tuple[list[str], str]]:
    """Servers on copies of one instance, so that one key opens all."""
    first = folder / "0"
    first.mkdir()
    api_key = prepare(first, "llamacpp")
    settings = first / "leadline.toml"
    settings.write_text(settings.read_text("utf-8").replace('"llamacpp"\n', '"llamacpp"\nthreads = 1\n'), "utf-8")
    folders = [first, *(folder / str(number) for number in range(1, _WORKERS))]
    for other in folders[1:]:
        shutil.copytree(first, other, symlinks=True)
    async with AsyncExitStack() as stack:
        urls = []
        for one in folders:
            server = await stack.enter_async_context(serving(one))
            await until_ready(server)
            urls.append(f"http://{_HOST}:{server.port}/v1")
        yield urls, api_key


def figures(answers: list[Answer]) -> dict[str, float]:
    """First tokens in milliseconds, and the share of the prompts' tokens that was cached, in percent."""
    firsts = sorted(1000 * answer.first_token_seconds for answer in answers)
    later = [answer for answer in answers if answer.turn]
    return {
        "cached_percent": _share(answers),
        "cached_percent_after_the_first_turn": _share(later),
        "first_token_median": statistics.median(firsts),
        "first_token_90": firsts[int(0.9 * len(firsts))],
        "first_token_most": firsts[-1],
        "first_token_median_after_the_first_turn": statistics.median(1000 * one.first_token_seconds for one in later),
    }


def _share(answers: list[Answer]) -> float:
    return 100 * sum(one.cached_tokens for one in answers) / max(1, sum(one.prompt_tokens for one in answers))


async def measure(rounds: int, *, is_real: bool) -> dict[bool, list[dict[str, float]]]:
    """The figures of each round, with affinity (True) and without."""
    found: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    trace = REAL if is_real else SCRIPTED
    with tempfile.TemporaryDirectory(prefix="leadline-affinity-") as folder:
        for round_ in range(rounds):
            for affinity in (True, False) if round_ % 2 else (False, True):
                # Fresh workers each time: neither side finds a cache that the other one filled.
                place = Path(folder) / f"{round_}-{affinity}"
                place.mkdir()
                async with real(place) if is_real else scripted() as (urls, api_key):
                    answers = await run_trace(urls, api_key, trace, round_, affinity=affinity)
                found[affinity].append(figures(answers))
                print(json.dumps({"affinity": affinity} | {k: round(v, 1) for k, v in found[affinity][-1].items()}))
    return found


def main() -> int:
    parser = argparse.ArgumentParser("python -m benchmarks.affinity", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often each side is measured [3]")
    parser.add_argument("--real", action="store_true", help="workers with llama.cpp instead of scripted ones")
    options = parser.parse_args()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            found = runner.run(measure(options.rounds, is_real=options.real))
    except LeadlineError as error:
        print(error, file=sys.stderr)
        return 1
    print(Machine.this())
    print(f"| {'real' if options.real else 'scripted'} workers | without affinity | with affinity |\n|---|---|---|")
    for name in found[True][0]:
        cells = [
            f"{statistics.median(values):,.0f} ({min(values):,.0f}..{max(values):,.0f})"
            for values in ([one[name] for one in found[affinity]] for affinity in (False, True))
        ]
        print(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
