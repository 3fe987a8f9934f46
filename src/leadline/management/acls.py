"""ACLs of API keys, in xAI's words, and what they mean for a key here."""

from collections.abc import Iterable, Sequence

from leadline.accounts.api_key import ENDPOINTS, NONE
from leadline.errors import InvalidRequest
from leadline.management.wire import Json

_ENDPOINT, _MODEL = "api-key:endpoint:", "api-key:model:"
# What every key may do; an ACL that says so changes nothing.
_ALWAYS_ALLOWED = "auth"
_MOST_ACLS = 1000
_DESCRIPTIONS = {
    "*": "Every endpoint.",
    "chat": "Chat completions, Responses and Messages; stored and deferred answers.",
    "sample": "Legacy text completions.",
    "embed": "Embeddings.",
    "tokenize": "Tokenizing text and counting tokens.",
    "models": "Listing models.",
    "image": "Image generation.",
    "files": "Files.",
    "batch": "Batches.",
}


def scopes_of(acls: Sequence[str], field: str = "acls") -> tuple[frozenset[str], frozenset[str]]:
    """The endpoints and the models of a key with these ACLs. All is an empty set; without an ACL of a kind it is NONE:
    such a key can do nothing. InvalidRequest where one is no ACL."""
    if len(acls) > _MOST_ACLS:
        raise InvalidRequest(f"A key takes {_MOST_ACLS} ACLs at most.", field)
    endpoints: set[str] = set()
    models: set[str] = set()
    for acl in acls:
        if acl.startswith(_ENDPOINT):
            endpoints.add(_endpoint(acl.removeprefix(_ENDPOINT), field))
        elif acl.startswith(_MODEL):
            models.add(_model(acl.removeprefix(_MODEL), field))
        else:
            raise InvalidRequest(
                f"{acl[:100]!r} is no ACL. Write {_ENDPOINT}* or {_MODEL}*, or a name in place of the star.", field
            )
    return _scope(endpoints - {_ALWAYS_ALLOWED}), _scope(models)


def permits(acls: Iterable[str], wanted: str) -> bool:
    """Whether ACLs hold this one, or the star of its kind."""
    kind = wanted.rpartition(":")[0] if not wanted.startswith(_MODEL) else _MODEL.rstrip(":")
    return not {wanted, f"{kind}:*"}.isdisjoint(acls)


def catalogue() -> list[Json]:
    """The ACLs of endpoints, the star first."""
    return [
        {
            "acl": _ENDPOINT + name,
            "description": _DESCRIPTIONS.get(name, ""),
            "namespace": "api-key",
            "key": "endpoint",
            "value": name,
        }
        for name in ("*", *sorted(ENDPOINTS))
    ]


def _scope(names: set[str]) -> frozenset[str]:
    if "*" in names:
        return frozenset()
    return frozenset(names) or NONE


def _endpoint(name: str, field: str) -> str:
    if name not in (*ENDPOINTS, "*", _ALWAYS_ALLOWED):
        raise InvalidRequest(
            f"There is no endpoint {name[:100]!r}. Write {_ENDPOINT}* or any of {', '.join(sorted(ENDPOINTS))}.", field
        )
    return name


def _model(name: str, field: str) -> str:
    if not 1 <= len(name) <= 200 or not name.isprintable() or name in NONE:
        raise InvalidRequest(f"A model's name in {_MODEL}NAME has 1 to 200 printable characters.", field)
    return name
