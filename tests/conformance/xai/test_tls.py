"""gRPC over TLS: the certificate of the settings, a renewed one, and what cannot be one."""

import datetime
import ipaddress
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from leadline.config import ConfigurationError, Grpc, load
from leadline.dialects.xai.protos import models
from leadline.operations.grpc import GrpcPortInUse, GrpcServer
from tests.conformance.xai.rpcs import bearer
from tests.scripted.server import ScriptedServer

_LIST = "/xai_api.Models/ListLanguageModels"
_SDK = """\
import sys
from xai_sdk import Client
from xai_sdk.chat import user
client = Client(api_key=sys.argv[1], api_host=sys.argv[2])
print(client.chat.create("echo", messages=[user("over TLS")]).sample().content)
"""


def _make(folder: Path, name: str) -> None:
    """A certificate for this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _make(tmp_path, "first")
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ScriptedServer]:
    data = folder / "data"
    data.mkdir(mode=0o700)
    (data / "leadline.toml").write_text(
        f'[grpc]\ntls_certificate = "{folder}/certificate.pem"\ntls_private_key = "{folder}/key.pem"\n'
    )
    server = ScriptedServer(data)
    yield server
    server.stop()


def _models(server: ScriptedServer, roots: bytes) -> int:
    """How many models a client sees that trusts these certificates."""
    with grpc.secure_channel(server.grpc_address, grpc.ssl_channel_credentials(roots)) as channel:
        answer = channel.unary_unary(_LIST)(b"", metadata=bearer(server.api_key), timeout=30)
    return len(models.ListLanguageModelsResponse.FromString(answer).models)


def test_the_sdk_talks_over_tls(server: ScriptedServer, folder: Path) -> None:
    """To any host but `localhost:…`, for which it insists on a plain port."""
    address = server.grpc_address.replace("localhost", "127.0.0.1")
    done = subprocess.run(
        [sys.executable, "-c", _SDK, server.api_key, address],
        env=os.environ | {"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(folder / "certificate.pem")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "over TLS", done.stderr


def test_nobody_talks_to_it_without(server: ScriptedServer) -> None:
    with grpc.insecure_channel(server.grpc_address) as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(_LIST)(b"", metadata=bearer(server.api_key), timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_renewed_certificate_holds_from_the_next_connection_on(server: ScriptedServer, folder: Path) -> None:
    first = (folder / "certificate.pem").read_bytes()
    assert _models(server, first) > 0
    _make(folder, "second")
    assert _models(server, (folder / "certificate.pem").read_bytes()) > 0
    with pytest.raises(grpc.RpcError):
        _models(server, first)


def test_a_half_written_renewal_leaves_the_certificate_as_it_was(server: ScriptedServer, folder: Path) -> None:
    first = (folder / "certificate.pem").read_bytes()
    assert _models(server, first) > 0
    (folder / "certificate.pem").write_bytes(first[:100])
    assert _models(server, first) > 0


def test_both_settings_or_neither(tmp_path: Path) -> None:
    (tmp_path / "leadline.toml").write_text('[grpc]\ntls_certificate = "certificate.pem"\n')
    with pytest.raises(ConfigurationError, match="needs both of tls_certificate and tls_private_key"):
        load(tmp_path / "leadline.toml", {})


@pytest.mark.parametrize("content", [b"", b"no certificate"])
async def test_what_is_no_certificate_is_refused_at_the_start(folder: Path, content: bytes) -> None:
    (folder / "certificate.pem").write_bytes(content)
    settings = Grpc(str(folder / "certificate.pem"), str(folder / "key.pem"))
    with pytest.raises(ConfigurationError, match="no certificate and its key in PEM form"):
        await GrpcServer.start(None, ("127.0.0.1",), 0, settings)  # type: ignore[arg-type]


async def test_a_port_that_is_taken_is_refused_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(GrpcPortInUse, match=f"--grpc-port {port + 1}"):
            await GrpcServer.start(None, ("127.0.0.1",), port, Grpc())  # type: ignore[arg-type]
