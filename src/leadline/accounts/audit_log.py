"""The audit log: who changed what by hand. A row is written in the commit of its change."""

import json
from collections.abc import Mapping

from leadline.ids import new_id
from leadline.storage.database import Value, Write

# The actor of every command: whoever may use the data folder.
COMMAND_LINE = "command line"


def audited(
    at: int, actor: str, action: str, subject: str, changes: tuple[Mapping[str, Value], Mapping[str, Value]]
) -> Write:
    """The row of an action on a subject (an id). `changes` are the fields before and after it; `at` in microseconds."""
    before, after = (json.dumps(fields, ensure_ascii=False) for fields in changes)
    return Write(
        "INSERT INTO audit_log (id, at, actor, action, subject, before, after) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        (new_id("aud"), at, actor, action, subject, before, after),
    )
