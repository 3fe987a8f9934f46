"""OpenAI's response as an object: as it begins, and as it ends."""

from typing import Any

from leadline.chat.collect import ChatAnswer
from leadline.chat.events import Usage
from leadline.serving.codec import KeptAnswer
from leadline.serving.generation import Generation

Json = dict[str, Any]
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def encode_usage(usage: Usage, cost_ticks: int) -> Json:
    """OpenAI's usage: reasoning is output. Nothing is written to a cache for money."""
    output_tokens = usage.output_tokens + usage.reasoning_tokens
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + output_tokens,
        "num_sources_used": 0,
        "num_server_side_tools_used": 0,
        "cost_in_usd_ticks": cost_ticks,
    }


def begun(told: Generation | KeptAnswer, echo: Json) -> Json:
    """A response of which there is nothing yet. `echo` is what it repeats of its request."""
    return {
        "id": f"resp_{told.request_id.hex}",
        "object": "response",
        "created_at": told.created_at,
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "model": told.model,
        "output": [],
        "usage": None,
        **echo,
    }


def ended(told: Generation | KeptAnswer, echo: Json, answer: ChatAnswer, output: list[Json], completed_at: int) -> Json:
    """A whole response; of several choices the first one is its output. `completed_at` is in seconds."""
    reason = _INCOMPLETE.get(answer.choices[0].finish_reason)
    return begun(told, echo) | {
        "status": "completed" if reason is None else "incomplete",
        "incomplete_details": None if reason is None else {"reason": reason},
        "completed_at": completed_at if reason is None else None,
        "output": output,
        "usage": encode_usage(answer.usage, told.cost_ticks),
    }
