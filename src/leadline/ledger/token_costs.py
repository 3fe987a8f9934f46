"""What the tokens of each class cost, split exactly from what requests were charged.

Sums of tokens do not tell it: a request has the prices of its admission, those of a long context apply to it as a
whole, and it never costs more than was reserved. So each record is split, at the prices that were recorded for its
model. Classes are charged in their order up to the request's cost, and the parts add up to it; what is left was
charged at prices that are not recorded. That happens beside the index of records, not with the charge.
"""

# `input` is the text of a prompt that was neither cached nor an image.
TOKEN_CLASSES = ("input", "cached", "image", "output", "reasoning")
COST_COLUMNS = tuple(f"{name}_cost_ticks" for name in TOKEN_CLASSES)
# What a record counts, in the columns of the sums.
COUNTED = {
    "requests": "1",
    "failed": "CASE r.status WHEN 'failed' THEN 1 ELSE 0 END",
    "refused": "CASE r.status WHEN 'refused' THEN 1 ELSE 0 END",
    "prompt_tokens": "r.prompt_tokens",
    "cached_tokens": "r.cached_tokens",
    "image_tokens": "r.image_tokens",
    "output_tokens": "r.output_tokens",
    "reasoning_tokens": "r.reasoning_tokens",
    "cost_ticks": "r.cost_ticks",
}

_NULLABLE = {"cached": "cached_input", "image": "image", "reasoning": "reasoning"}


def _short(name: str) -> str:
    without = "output" if name == "reasoning" else "input"
    return f"COALESCE(p.{_NULLABLE[name]}_ticks, p.{without}_ticks)" if name in _NULLABLE else f"p.{name}_ticks"


def _long(name: str) -> str:
    own = f"NULLIF(p.{_NULLABLE.get(name, name)}_long_context_ticks, 0)"
    of_output = ", NULLIF(p.output_long_context_ticks, 0)" if name == "reasoning" else ""
    return f"COALESCE({own}{of_output}, {_short(name)})"


def _fresh() -> str:
    """`fresh`: meter_id, at, COUNTED and COST_COLUMNS of every record that is not indexed yet."""
    tokens = {name: f"r.{name}_tokens" for name in TOKEN_CLASSES}
    tokens["input"] = "(r.prompt_tokens - r.cached_tokens - r.image_tokens)"
    is_long = "p.long_context_threshold > 0 AND r.prompt_tokens >= p.long_context_threshold"
    counted = ", ".join(f"{value} AS {name}" for name, value in COUNTED.items())
    costs = ", ".join(
        f"COALESCE({tokens[name]} * CASE WHEN {is_long} THEN {_long(name)} ELSE {_short(name)} END, 0) AS {name}"
        for name in TOKEN_CLASSES
    )
    up_to = [" + ".join(TOKEN_CLASSES[: number + 1]) for number in range(len(TOKEN_CLASSES))]
    bounded = ", ".join(
        f"CASE WHEN {sum_} < cost_ticks THEN {sum_} ELSE cost_ticks END AS to_{name}"
        for sum_, name in zip(up_to, TOKEN_CLASSES, strict=True)
    )
    pairs = zip(TOKEN_CLASSES[1:], TOKEN_CLASSES, strict=False)
    parts = (
        "to_input AS input_cost_ticks",
        *(f"to_{name} - to_{before} AS {name}_cost_ticks" for name, before in pairs),
    )
    counts = ", ".join(COUNTED)
    return (
        f"WITH costs AS (SELECT r.meter_id, r.at, {counted}, {costs} FROM usage_records r"
        " JOIN meters m ON m.id = r.meter_id LEFT JOIN prices p ON p.model = m.model AND p.effective_from ="
        " (SELECT MAX(q.effective_from) FROM prices q WHERE q.model = m.model AND q.effective_from <= r.began_at)"
        " AND p.recorded_at ="
        " (SELECT MAX(q.recorded_at) FROM prices q WHERE q.model = m.model AND q.effective_from = p.effective_from)"
        " WHERE r.number > (SELECT value FROM facts WHERE name = 'records_indexed')),"
        f" bounded AS (SELECT meter_id, at, {counts}, {bounded} FROM costs),"
        f" fresh AS (SELECT meter_id, at, {counts}, {', '.join(parts)} FROM bounded)"
    )


# Begins a query of what is not in all sums yet.
FRESH = _fresh()
