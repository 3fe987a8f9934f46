"""Which pages there are, in their order. Each is a Markdown file in `guides/`; some of those are links to docs/."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from leadline.console.docs.markdown import Written, write


@dataclass(frozen=True, slots=True)
class Entry:
    """A page: where it is, and what the navigation calls it. `file` names its Markdown; '' is made otherwise."""

    path: str
    name: str
    file: str = ""


def _guide(file: str, name: str) -> Entry:
    return Entry(f"/docs/guides/{file}", name, f"{file}.md")


API, PROTOS, SEARCH = "/docs/api", "/docs/protos", "/docs/search"
GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Start", (Entry("/docs/quickstart", "Quickstart", "quickstart.md"),)),
    (
        "Build",
        (
            _guide("streaming", "Streaming"),
            _guide("tools", "Function calling"),
            _guide("structured-output", "Structured output"),
            _guide("images", "Images"),
            _guide("responses", "Responses API"),
            _guide("messages", "Messages API"),
            _guide("grpc", "xAI's SDK and gRPC"),
            _guide("embeddings", "Embeddings"),
            _guide("batches", "Batches"),
            _guide("files", "Files"),
            _guide("deferred", "Deferred completions"),
            _guide("idempotency", "Idempotency"),
        ),
    ),
    (
        "Keys and credits",
        (
            _guide("keys", "API keys"),
            _guide("management", "Management API"),
            _guide("members", "Members and sign-in"),
            _guide("credits", "Credits and charges"),
            _guide("limits", "Rate limits"),
            _guide("errors", "Errors"),
        ),
    ),
    (
        "Reference",
        (
            Entry(API, "API reference"),
            _guide("parameters", "Parameters"),
            _guide("differences", "Differences from xAI"),
            Entry(PROTOS, "Protocol buffers"),
        ),
    ),
    (
        "Run a server",
        (
            _guide("configuration", "Configuration"),
            _guide("models", "Models on your machine"),
            _guide("engines", "vLLM and other engines"),
            _guide("mail", "E-mail"),
            _guide("billing", "Payments and limits"),
            _guide("proxy", "TLS and proxies"),
            _guide("watching", "Looking after a server"),
            _guide("backup", "Backups"),
            _guide("postgresql", "PostgreSQL"),
            _guide("deploy", "Deployment"),
            _guide("runbook", "Runbook"),
        ),
    ),
)
ENTRIES = tuple(entry for _, entries in GROUPS for entry in entries)
_PATHS: Mapping[str, str] = {entry.file: entry.path for entry in ENTRIES if entry.file} | {"api.md": API}
# Links to decisions, which are for people who work on Leadline.
_REASON = re.compile(r" \(\[why\]\([^)]*\)\)")
# Documents that are read outside the product, too, name an instance of their own: this becomes the reader's.
_OF_AN_INSTANCE = {
    "grpc.md": {
        '"localhost:8081"': '"{{grpc_address}}"{{grpc_plain}}',
        "smollm2-135m-instruct": "{{model}}",
    },
    "management.md": {"http://localhost:8080": "{{base_url}}"},
}


@cache
def written(file: str) -> Written:
    """The page of a Markdown file, made once."""
    text = (files("leadline") / "console" / "docs" / "guides" / file).read_text("utf-8")
    for told, placeholder in _OF_AN_INSTANCE.get(file, {}).items():
        text = text.replace(told, placeholder)
    return write(_REASON.sub("", text), _PATHS)
