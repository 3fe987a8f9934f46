"""OpenVINO GenAI's continuous batching, step by step: what the child runs. Nothing else imports the library."""

import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from leadline.engines.openvino.prefixes import BLOCK_TOKENS, Holder, Prefixes
from leadline.engines.openvino.vocabulary import Vocabulary, Writer
from leadline.engines.openvino.wire import Began, Ended, Failed, Generate, Message, Wrote

# The tools that come with the library would count who uses them. Nothing here is counted anywhere.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import numpy as np  # noqa: E402
import openvino  # noqa: E402
import openvino_genai  # noqa: E402

# The most tokens of a step, prompts and answers: larger ones are faster in all, and the others wait longer for theirs.
STEP_TOKENS = 256
# A request takes no more blocks than its tokens fill, but for these.
_BLOCKS_BESIDE = 2
_MOST_TOP_K = 2**31


def version() -> str:
    return str(openvino_genai.__version__)


@dataclass(slots=True)
class Running:
    """One request. What it says goes to `tell`."""

    asked: Generate
    tell: Callable[[Message], None]
    prompt: list[int]
    handle: Any
    holder: Holder
    writer: Writer
    made: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Pipeline:
    """`reuses`: prompts that begin like earlier ones are not computed again, whoever asked the earlier ones."""

    settings: dict[str, Any]
    reuses: bool
    vocabulary: Vocabulary = field(init=False)
    _batch: Any = field(init=False)
    _prefixes: Prefixes = field(init=False)
    _running: dict[int, Running] = field(default_factory=dict)
    _last_number: int = 0

    def __post_init__(self) -> None:
        blocks = self.settings["cache_tokens"] // BLOCK_TOKENS + _BLOCKS_BESIDE * self.settings["parallel_requests"]
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks = blocks
        scheduler.enable_prefix_caching = self.reuses
        scheduler.max_num_batched_tokens = STEP_TOKENS
        scheduler.max_num_seqs = self.settings["parallel_requests"]
        properties = {"INFERENCE_NUM_THREADS": self.settings["threads"]}
        self._batch = openvino_genai.ContinuousBatchingPipeline(self.settings["weights"], scheduler, "CPU", properties)
        self._prefixes = Prefixes(blocks)
        self.vocabulary = Vocabulary.of(self._batch.get_tokenizer(), self.settings["special"], self.settings["ends"])

    @property
    def works(self) -> bool:
        return bool(self._running)

    @property
    def running(self) -> int:
        return len(self._running)

    def warm(self) -> None:
        """Run once what every request runs: the first time takes longer."""
        said: deque[Message] = deque()
        asked = Generate(0, [0] * 8, 2, 1.0, 1.0, 40, 0.05, 0.0, 0.0, 0, None, [], logprobs=False, scope="")
        self.add(asked, said.append)
        while self.works:
            self.step()

    def add(self, asked: Generate, tell: Callable[[Message], None]) -> int | None:
        """Begin with it. Returns what it is cancelled by; None where it cannot be run, and was told so."""
        prompt = self.vocabulary.tokens(asked.prompt)
        most = max(self.vocabulary.token_bytes)
        if not prompt or any(not 0 <= token <= most for token in prompt):
            tell(Failed(asked.number, "invalid"))
            return None
        self._last_number += 1
        number = self._last_number
        holder = self._prefixes.begin(prompt) if self.reuses else Holder([], len(prompt), 0)
        tensor = openvino.Tensor(np.array([prompt], dtype=np.int64))
        try:
            handle = self._batch.add_request(number, tensor, self._configured(asked))
        except RuntimeError:
            if self.reuses:
                self._prefixes.end(holder, ())
            tell(Failed(asked.number, "invalid"))
            return None
        writer = self.vocabulary.writer(asked.kept)
        self._running[number] = Running(asked, tell, prompt, handle, holder, writer)
        tell(Began(asked.number, len(prompt), holder.cached_tokens))
        return number

    def cancel(self, number: int) -> None:
        """Its client has gone."""
        running = self._running.get(number)
        if running is not None:
            running.handle.cancel()
            self._leave(number)

    def step(self) -> None:
        """Compute once, and tell all who got something. RuntimeError where the library cannot: nothing that runs can go
        on then, whosever request it was."""
        self._batch.step()
        for number, running in list(self._running.items()):
            self._read(number, running)

    def _read(self, number: int, running: Running) -> None:
        reason: Literal["stop", "length"] | None = None
        tokens: list[int] = []
        logprobs: list[tuple[bytes, float]] = []
        while running.handle.can_read():
            for output in running.handle.read().values():
                tokens += output.generated_ids
                if running.asked.logprobs:
                    texts = (self.vocabulary.token_bytes.get(token, b"") for token in output.generated_ids)
                    logprobs += zip(texts, output.generated_log_probs, strict=False)
                if output.finish_reason != openvino_genai.GenerationFinishReason.NONE:
                    stops = output.finish_reason == openvino_genai.GenerationFinishReason.STOP
                    reason = "stop" if stops else "length"
        if not tokens and reason is None and running.handle.get_status() != openvino_genai.GenerationStatus.RUNNING:
            # Out of its cache, which its parent never lets it be; or dropped.
            running.tell(Failed(running.asked.number, "failed"))
            self._leave(number)
            return
        if tokens:
            running.made += tokens
            running.holder.tokens += len(tokens)
            if self.reuses:
                self._prefixes.computed(running.holder, running.prompt)
        if tokens or reason:
            text = running.writer.write(tokens) + (running.writer.end() if reason else "")
            running.tell(Wrote(running.asked.number, text, len(tokens), logprobs))
        if reason is not None:
            running.tell(Ended(running.asked.number, reason, running.holder.cached_tokens))
            self._leave(number)

    def _leave(self, number: int) -> None:
        running = self._running.pop(number)
        if self.reuses:
            # The last token was made, and not yet computed.
            self._prefixes.end(running.holder, (*running.prompt, *running.made[:-1]))

    def _configured(self, asked: Generate) -> Any:
        options: dict[str, Any] = {
            "max_new_tokens": asked.most_tokens,
            "apply_chat_template": False,
            "presence_penalty": asked.presence_penalty,
            "frequency_penalty": asked.frequency_penalty,
            "logprobs": int(asked.logprobs),
        }
        if asked.temperature > 0:
            options |= {
                "do_sample": True,
                "temperature": asked.temperature,
                "top_p": asked.top_p,
                "min_p": asked.min_p,
                "top_k": asked.top_k or _MOST_TOP_K,
                "rng_seed": asked.seed,
            }
        if asked.grammar is not None:
            options["structured_output_config"] = openvino_genai.StructuredOutputConfig(grammar=asked.grammar)
        config = openvino_genai.GenerationConfig(**options)
        config.eos_token_id = self.vocabulary.tokenizer.get_eos_token_id()
        config.stop_token_ids = set(self.vocabulary.ends)
        config.validate()
        return config
