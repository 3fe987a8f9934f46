"""How the commands of usage show it: tables for people, and the columns of CSV."""

from collections.abc import Mapping, Sequence
from typing import Any

from leadline.cli.options import table
from leadline.money import show_usd

# What a result calls a count, and the heading that people read above it.
REQUESTS = {"requests": "REQUESTS", "failed": "FAILED", "refused": "REFUSED"}
TOKENS = {
    "prompt_tokens": "PROMPT",
    "cached_tokens": "CACHED",
    "image_tokens": "IMAGE",
    "output_tokens": "OUTPUT",
    "reasoning_tokens": "REASONING",
}
SUMMED = (*REQUESTS, *TOKENS, "cost_ticks")
_PLACES = ("request_id", "began_at", "at", "key_name", "key", "model", "endpoint", "status", "error")
LOGGED = (*_PLACES, *TOKENS, "first_token_milliseconds", "total_milliseconds", "cost_ticks")


def sums_table(heading: str, rows: Sequence[tuple[str, Mapping[str, Any]]], total: Mapping[str, Any]) -> str:
    """Each with what it is called."""
    headings = (heading, *REQUESTS.values(), *TOKENS.values(), "COST")
    return table(headings, [*((name, *_counts(row)) for name, row in rows), ("TOTAL", *_counts(total))])


def log_table(records: Sequence[Mapping[str, Any]]) -> str:
    headings = ("AT", "REQUEST", "KEY", "MODEL", "ENDPOINT", "STATUS", *TOKENS.values(), "COST")
    rows = [
        (
            *(record["at"], record["request_id"], key_shown(record), record["model"], record["endpoint"]),
            *(status_shown(record),),
            *(str(record[name]) for name in TOKENS),
            show_usd(record["cost_ticks"]),
        )
        for record in records
    ]
    return table(headings, rows)


def key_shown(row: Mapping[str, Any]) -> str:
    return f"{row['key_name']} ({row['key']})"


def status_shown(record: Mapping[str, Any]) -> str:
    return f"{record['status']} ({record['error']})" if record["error"] else str(record["status"])


def _counts(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(str(row[name]) for name in (*REQUESTS, *TOKENS)), show_usd(row["cost_ticks"]))
