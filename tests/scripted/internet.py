"""A small internet on loopback: public servers behind addresses of their own, and canaries behind all others.

Names are resolved from a table, one answer after another; a host that is a number in any spelling is resolved as the
system's resolver does. A connection to a public address of ours reaches the public server, any other one a canary.
"""

import asyncio
import datetime
import ipaddress
import socket
import ssl
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, unquote

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from leadline.images.fetch import ImageFetcher, connect_to
from leadline.images.hosts import PrivateHosts
from leadline.images.networks import Address

PUBLIC, PUBLIC_V6 = "93.184.216.34", "2606:2800:220::34"
_PUBLIC_NETWORKS = (ipaddress.ip_network("93.184.216.0/24"), ipaddress.ip_network("2606:2800:220::/48"))
IMAGE = b"\x89PNG\r\n\x1a\n and whatever follows"
CERTIFIED = "secure.example"


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    """A whole HTTP answer with a Content-Length."""
    lines = [f"HTTP/1.1 {status} Some Words", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Internet:
    """`hosts` of a name is what it resolves to: a list of answers, of which the last one stays. `pages` are answers by
    target; `/to/302/…` redirects to what follows, `/silent` never answers, `/stalled` stops in its midst, and all
    other targets are an image."""

    def __init__(self) -> None:
        self.hosts: dict[str, list[list[str]]] = {}
        self.networks: list[Any] = list(_PUBLIC_NETWORKS)
        self.pages: dict[str, bytes] = {}
        self.heads: list[str] = []
        self.dialled: list[tuple[str, int]] = []
        self.hits = 0
        self.asked = 0
        self._servers: list[asyncio.Server] = []
        self._ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        self._ports["plain"] = await self._listen(self._serve, "127.0.0.1")
        self._ports["v4"] = await self._listen(self._canary, "127.0.0.1")
        try:
            self._ports["v6"] = await self._listen(self._canary, "::1")
        except OSError:  # a machine without IPv6: its canary listens on the other loopback
            self._ports["v6"] = self._ports["v4"]
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()

    async def _listen(self, serve: Any, host: str, **more: Any) -> int:
        server = await asyncio.start_server(serve, host, 0, **more)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_with_tls(self, folder: Path) -> ssl.SSLContext:
        """Serve port 443 as well, with a certificate for `secure.example`. Returns what trusts it."""
        certificate, key = _certificate(CERTIFIED)
        (folder / "server.pem").write_bytes(certificate + key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem")
        self._ports["tls"] = await self._listen(self._serve, "127.0.0.1", ssl=context)
        trusting = ssl.create_default_context()
        # The method that tests replace, which would trust nobody.
        super(ssl.SSLContext, trusting).load_verify_locations(cadata=certificate.decode())
        return trusting

    def fetcher(self, *private_hosts: str, tls: ssl.SSLContext | None = None) -> ImageFetcher:
        return ImageFetcher(PrivateHosts.of(private_hosts), self.resolve, self.connect, tls)

    def canary_port(self, version: int) -> int:
        return self._ports[f"v{version}"]

    async def resolve(self, name: str) -> list[Address]:
        """OSError where there is no such name."""
        self.asked += 1
        with suppress(OSError):  # a number in any spelling
            return [ipaddress.IPv4Address(socket.inet_aton(unicodedata.normalize("NFKC", name)))]
        if name not in self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        answers = self.hosts[name]
        return [ipaddress.ip_address(text) for text in (answers.pop(0) if len(answers) > 1 else answers[0])]

    async def connect(self, address: Address, port: int) -> socket.socket:
        self.dialled.append((str(address), port))
        if any(address in network for network in self.networks):
            return await connect_to(ipaddress.IPv4Address("127.0.0.1"), self._ports["tls" if port == 443 else "plain"])
        if address.version == 4 or self._ports["v4"] == self._ports["v6"]:
            return await connect_to(ipaddress.IPv4Address("127.0.0.1"), self._ports["v4"])
        return await connect_to(ipaddress.IPv6Address("::1"), self._ports["v6"])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            self.heads.append(head)
            target = head.split(" ")[1]
            if target in ("/silent", "/stalled"):
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegun" if target == "/stalled" else b"")
                await reader.read()
            elif target.startswith("/to/"):
                _, _, status, location = target.split("/", 3)
                writer.write(answer(int(status), Location=unquote(location)))
            else:
                writer.write(self.pages.get(target, answer(200, IMAGE)))
            await writer.drain()
        writer.close()

    async def _canary(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.hits += 1
        writer.write(answer(200, b"what nobody may see"))
        writer.close()


def redirect(status: int, *locations: str, host: str = "public.example") -> str:
    """A URL of the public server that redirects to the first location, and so on through all of them."""
    target = locations[-1]
    for _ in locations[:-1]:
        target = f"http://{host}/to/{status}/{quote(target, safe='')}"
    return f"http://{host}/to/{status}/{quote(target, safe='')}"


def _certificate(name: str) -> tuple[bytes, bytes]:
    """A certificate that signs itself, and its key, in PEM form."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return made.public_bytes(encoding), key.private_bytes(encoding, form, serialization.NoEncryption())
