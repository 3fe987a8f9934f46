"""Which workers there are: those of a list, or all addresses that a name has, asked again and again."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from leadline.engines.upstream.http import Address

RESOLVE_EVERY_SECONDS = 5.0
_RESOLVE_SECONDS = 5.0
# A name with more addresses than this has the first ones, in their order.
MOST_WORKERS = 256
# The addresses of a host; OSError where it has none or nobody knows.
Resolve = Callable[[str, int], Awaitable[Collection[str]]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker is. `at` names it for people; it is reached at `ip`, where its `url`'s host has several."""

    at: str
    url: str
    ip: str | None = None


def listed(urls: Collection[str]) -> tuple[Place, ...]:
    return tuple(Place(url.rstrip("/"), url.rstrip("/")) for url in dict.fromkeys(urls))


async def resolve(host: str, port: int) -> Collection[str]:
    """By the machine's own resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return {str(address[0]) for *_, address in found}


async def places(url: str, ask: Resolve) -> tuple[Place, ...] | None:
    """One for each address of the URL's host; None where that cannot be told now."""
    address = Address.of(url)
    try:
        async with asyncio.timeout(_RESOLVE_SECONDS):
            found = await ask(address.host, address.port)
    except (OSError, UnicodeError, TimeoutError):
        return None
    ips = sorted(found, key=_order)[:MOST_WORKERS]
    return tuple(Place(_with_host(url, ip), url.rstrip("/"), ip) for ip in ips) or None


def _order(ip: str) -> tuple[int, int]:
    parsed = ipaddress.ip_address(ip.partition("%")[0])
    return parsed.version, int(parsed)


def _with_host(url: str, ip: str) -> str:
    parts = urlsplit(url.rstrip("/"))
    host = f"[{ip}]" if ":" in ip else ip
    return urlunsplit(parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}"))
