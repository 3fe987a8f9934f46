"""A server whose models `openai` and `vllm` run on a remote server that says what a test makes it say."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leadline.engines.upstream.engine import UpstreamEngine
from tests.conformance.told import FORMS, Told, everywhere
from tests.scripted.server import ScriptedServer
from tests.scripted.upstream import Reply, ScriptedUpstream, sse

KINDS = ("openai", "vllm")


@dataclass
class Remote:
    server: ScriptedServer
    upstream: ScriptedUpstream

    def says(self, *chunks: dict[str, Any], done: bool = True, forms: Any = FORMS, **more: Any) -> Told:
        """What both kinds make of the chunks, in all dialects."""
        return self.sends(sse(*chunks, done=done), forms=forms, **more)

    def sends(self, *pieces: bytes, forms: Any = FORMS, **more: Any) -> Told:
        self.upstream.reply = Reply(pieces=pieces)
        one, other = (everywhere(self.server, kind, forms, **more) for kind in KINDS)
        assert one.said == other.said
        return one


@contextmanager
def remote_server(data: Path) -> Iterator[Remote]:
    data.mkdir(mode=0o700)
    (data / "leadline.toml").write_text("[limits.default]\nrequests_per_minute = 0\ntokens_per_minute = 0\n")
    upstream = ScriptedUpstream()
    with upstream.aside():
        engines = {kind: UpstreamEngine(kind, kind, upstream.url) for kind in KINDS}
        server = ScriptedServer(data, "1000", engines=engines)
        server.wait_until(lambda: all(engine.status.ready for engine in engines.values()))
        yield Remote(server, upstream)
        server.stop()
