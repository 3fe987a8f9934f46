"""What is known of a model that OpenVINO GenAI runs, what it takes, and which models it can run."""

from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from leadline.engines.embedded.model import Settings, Weights
from leadline.engines.engine import Capability, ModelFacts

PACKAGE = "openvino-genai"
CAPABILITIES: frozenset[Capability] = frozenset(("chat", "completions", "tools", "json", "logprobs"))
# Small models need the unlikely tokens cut off: without it, one strange token derails an answer.
TOP_K, MIN_P = 40, 0.05
# What a child takes beside weights and token cache: the library, what it computes in, the vocabulary.
_CHILD_BYTES = 400_000_000
# Matrices are kept as the file has them, and once more as the processor wants them.
_WEIGHTS_TIMES = 3


# What the library makes a model of. Others it does not read, or reads wrongly.
_ARCHITECTURES = frozenset(("llama", "qwen2", "qwen3"))
_TOKENIZER = "gpt2"
# F32, F16, Q4_0, Q4_1, Q8_0, Q4_K, Q6_K
_TYPES = frozenset((0, 1, 2, 3, 8, 12, 14))
_TENSORS = frozenset(
    f"{name}.{part}"
    for part in ("weight", "bias")
    for name in (
        *("token_embd", "output", "output_norm", "attn_norm", "attn_q", "attn_k", "attn_v", "attn_output"),
        *("attn_q_norm", "attn_k_norm", "ffn_norm", "ffn_gate", "ffn_up", "ffn_down"),
    )
)


def why_not(weights: Weights) -> str | None:
    """Why the library cannot run a model, in words that follow its name; None where it can."""
    build = weights.build
    if weights.embeds:
        return "makes vectors"
    if weights.projector is not None:
        return "sees through a projector"
    if build.architecture not in _ARCHITECTURES:
        return f"has the architecture {build.architecture}, not one of {', '.join(sorted(_ARCHITECTURES))}"
    if build.tokenizer != _TOKENIZER:
        return f"has a tokenizer of the kind {build.tokenizer}, not {_TOKENIZER}"
    if not build.tensors:
        return "is in several files"
    if {kind for _, kind in build.tensors} - _TYPES:
        return "has tensors of other types than F32, F16, Q4_0, Q4_1, Q4_K, Q6_K and Q8_0"
    if {name for name, _ in build.tensors} - _TENSORS:
        return "has tensors that are none of its architecture's plain ones"
    return None


def installed() -> bool:
    """Whether the library is there, without loading it."""
    return find_spec("openvino_genai") is not None


def memory_bytes(settings: Settings, weights: Weights) -> int:
    """The most that a child takes with them, about."""
    return _WEIGHTS_TIMES * weights.size_bytes + settings.cache_tokens * weights.cache_bytes + _CHILD_BYTES


@lru_cache
def facts_of(weights: Weights, context_tokens: int) -> ModelFacts:
    """What is known of a model that runs in a context of so many tokens."""
    thinks: frozenset[Capability] = frozenset(("reasoning",) if weights.template.thinking else ())
    facts = (
        f"weights {weights.digest}",
        f"{PACKAGE} {_version()}",
        f"context {context_tokens}",
        f"sampling top_k {TOP_K} min_p {MIN_P}",
    )
    return ModelFacts(context_tokens, CAPABILITIES | thinks, facts)


@cache
def _version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "missing"
