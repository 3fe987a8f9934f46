"""What the tokens of each class cost, split exactly from what requests were charged.

Sums of tokens do not tell it: a request has the prices of its admission, those of a long context apply to it as a
whole, and it never costs more than was reserved. So each record is split, at the prices that were recorded for its
model. Classes are charged in their order up to the request's cost, and the parts add up to it; what is left was
charged at prices that are not recorded. That happens beside the index of records, not with the charge.
"""

from leadline.clock import MICROSECONDS_PER_HOUR
from leadline.storage.database import Transaction

# `input` is the text of a prompt that was neither cached nor an image.
TOKEN_CLASSES = ("input", "cached", "image", "output", "reasoning")
COST_COLUMNS = tuple(f"{name}_cost_ticks" for name in TOKEN_CLASSES)

_NULLABLE = {"cached": "cached_input", "image": "image", "reasoning": "reasoning"}


def _short(name: str) -> str:
    without = "output" if name == "reasoning" else "input"
    return f"COALESCE(p.{_NULLABLE[name]}_ticks, p.{without}_ticks)" if name in _NULLABLE else f"p.{name}_ticks"


def _long(name: str) -> str:
    own = f"NULLIF(p.{_NULLABLE.get(name, name)}_long_context_ticks, 0)"
    of_output = ", NULLIF(p.output_long_context_ticks, 0)" if name == "reasoning" else ""
    return f"COALESCE({own}{of_output}, {_short(name)})"


def _split() -> str:
    """`split`: meter_id, at and the ticks of each class, for every record that is not indexed yet."""
    tokens = {name: f"r.{name}_tokens" for name in TOKEN_CLASSES}
    tokens["input"] = "(r.prompt_tokens - r.cached_tokens - r.image_tokens)"
    is_long = "p.long_context_threshold > 0 AND r.prompt_tokens >= p.long_context_threshold"
    costs = ", ".join(
        f"{tokens[name]} * CASE WHEN {is_long} THEN {_long(name)} ELSE {_short(name)} END AS {name}"
        for name in TOKEN_CLASSES
    )
    up_to = [" + ".join(TOKEN_CLASSES[: number + 1]) for number in range(len(TOKEN_CLASSES))]
    bounded = ", ".join(
        f"CASE WHEN {sum_} < cost_ticks THEN {sum_} ELSE cost_ticks END AS to_{name}"
        for sum_, name in zip(up_to, TOKEN_CLASSES, strict=True)
    )
    pairs = zip(TOKEN_CLASSES[1:], TOKEN_CLASSES, strict=False)
    parts = ", ".join(("to_input AS input", *(f"to_{name} - to_{before} AS {name}" for name, before in pairs)))
    return (
        f"WITH costs AS (SELECT r.meter_id, r.at, r.cost_ticks, {costs} FROM usage_records r"
        " JOIN meters m ON m.id = r.meter_id JOIN prices p ON p.model = m.model AND p.effective_from ="
        " (SELECT MAX(q.effective_from) FROM prices q WHERE q.model = m.model AND q.effective_from <= r.began_at)"
        " AND p.recorded_at ="
        " (SELECT MAX(q.recorded_at) FROM prices q WHERE q.model = m.model AND q.effective_from = p.effective_from)"
        " WHERE r.cost_ticks > 0 AND r.number > (SELECT value FROM facts WHERE name = 'records_indexed')),"
        f" bounded AS (SELECT meter_id, at, {bounded} FROM costs),"
        f" split AS (SELECT meter_id, at, {parts} FROM bounded)"
    )


# Begins a query of what is not in the sums yet.
SPLIT = _split()
SPLIT_SUMS = ", ".join(f"SUM({name})" for name in TOKEN_CLASSES)


def add_costs(transaction: Transaction) -> None:
    """Add what the records that are not indexed yet cost by class to the sums of their hours and days."""
    query = f"{SPLIT} SELECT meter_id, at / {MICROSECONDS_PER_HOUR}, {SPLIT_SUMS} FROM split GROUP BY 1, 2"
    hours = list(transaction.rows(query))
    if hours:
        transaction.write_many(_add_to("usage_hours", "hour"), hours)
        days = [(meter_id, hour // 24, *ticks) for meter_id, hour, *ticks in hours]
        transaction.write_many(_add_to("usage_days", "day"), days)


def _add_to(table: str, period: str) -> str:
    added = ", ".join(f"{name} = {name} + ${number}" for number, name in enumerate(COST_COLUMNS, 3))
    return f"UPDATE {table} SET {added} WHERE meter_id = $1 AND {period} = $2"
