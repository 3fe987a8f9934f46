"""The gRPC server beside the HTTP one: where it listens, its certificate, and how it drains."""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from leadline.config import ConfigurationError, Grpc
from leadline.dialects.xai.server import grpc_server
from leadline.dialects.xai.service import Service
from leadline.errors import LeadlineError
from leadline.serving.pipeline import Pipeline

SETTLE_SECONDS = 5


class GrpcPortInUse(LeadlineError):
    """Another program listens on the port for gRPC."""


@dataclass(frozen=True, slots=True)
class GrpcServer:
    """A server that answers on `port`."""

    port: int
    _server: Any
    _service: Service

    @classmethod
    async def start(cls, pipeline: Pipeline, hosts: tuple[str, ...], port: int, settings: Grpc) -> "GrpcServer":
        """Listen on the first of `hosts`, and on the others where that can be done; port 0 picks a free one."""
        credentials = _credentials(settings)
        server, service = grpc_server(pipeline, reflects=settings.reflection)
        port = _listen(server, hosts[0], port, credentials)
        for host in hosts[1:]:
            with contextlib.suppress(GrpcPortInUse):
                _listen(server, host, port, credentials)
        await server.start()
        return cls(port, server, service)

    async def drain(self, seconds: float) -> None:
        """Take no more calls; end those that run after `seconds`, with an error that says why."""
        self._service.draining.set()
        stopped = asyncio.ensure_future(self._server.stop(seconds + SETTLE_SECONDS))
        done, _ = await asyncio.wait([stopped], timeout=seconds)
        if not done:
            self.hurry()
        await stopped

    def hurry(self) -> None:
        """End what still runs, now."""
        self._service.stop()


def _listen(server: Any, host: str, port: int, credentials: Any) -> int:
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise GrpcPortInUse(
            f"gRPC cannot listen on port {port} of {host}: another program does, or it is not allowed. Start with"
            f" another one: leadline serve --grpc-port {port + 1}"
        )
    return int(bound)


def _credentials(settings: Grpc) -> Any:
    """Those of the certificate that the settings name; its files are read again when they have changed. None: plain."""
    if settings.tls_certificate is None or settings.tls_private_key is None:
        return None
    certificate, private_key = Path(settings.tls_certificate), Path(settings.tls_private_key)
    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, private_key)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            f"[grpc] tls_certificate and tls_private_key: {certificate} and {private_key} are no certificate and its"
            " key in PEM form, or cannot be read."
        ) from None
    read_at = _changed_at(certificate, private_key)

    def configuration() -> Any:
        pair = private_key.read_bytes(), certificate.read_bytes()
        return grpc.ssl_server_certificate_configuration([pair])

    def renewed() -> Any:
        nonlocal read_at
        with contextlib.suppress(OSError):
            now = _changed_at(certificate, private_key)
            # What is no pair, since somebody is about to write it, changes nothing.
            if now != read_at:
                read_at = now
                return configuration()
        return None

    return grpc.dynamic_ssl_server_credentials(configuration(), renewed, require_client_authentication=False)


def _changed_at(*paths: Path) -> tuple[int, ...]:
    return tuple(path.stat().st_mtime_ns for path in paths)
