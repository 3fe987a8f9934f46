"""Fetches the images that users name by URL, without ever asking a server that they could not reach themselves.

A host is resolved once, every address of it is checked, and the connection goes to one of these addresses itself:
whatever the name means a moment later, it is not asked again. Every redirect begins anew.
"""

import asyncio
import binascii
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cached_property
from ipaddress import IPv6Address, ip_address

from leadline.errors import InvalidRequest, Unavailable
from leadline.images.hosts import PrivateHosts
from leadline.images.networks import Address
from leadline.images.transfer import LARGEST_IMAGE_BYTES, Answer, Broken, get, too_large
from leadline.images.url import Url, follow, parse

FETCH_SECONDS = 10.0
_CONNECT_SECONDS = 3.0
_MOST_REDIRECTS = 3
_REDIRECTS = (301, 302, 303, 307, 308)
# A host with more addresses is nobody's web server.
_MOST_ADDRESSES = 64
_ADDRESSES_TRIED = 4
_AT_ONCE = 16
_MOST_WAITING = 256
_WAIT_SECONDS = 30.0
_LOOKUPS_AT_ONCE = 16
_DATA = re.compile(r"data:image/[a-z0-9.+-]{1,64}(;[a-z0-9=._-]{1,64})*;base64,", re.IGNORECASE)
_LONGEST_BASE64 = (LARGEST_IMAGE_BYTES + 2) // 3 * 4

Resolve = Callable[[str], Awaitable[list[Address]]]
Connect = Callable[[Address, int], Awaitable[socket.socket]]


class ImageFetcher:
    """At most 16 fetches run at once, 256 wait. `resolve` and `connect` are the system's unless others are given."""

    def __init__(
        self,
        private_hosts: PrivateHosts,
        resolve: Resolve | None = None,
        connect: Connect | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._private_hosts = private_hosts
        # Lookups of the system cannot be cancelled. In threads of their own, slow ones hold up nothing else.
        self._lookups = ThreadPoolExecutor(_LOOKUPS_AT_ONCE, "image-lookup")
        self._resolve = resolve or self._ask_system
        self._connect = connect or connect_to
        self._given_tls = tls
        self._running = asyncio.Semaphore(_AT_ONCE)
        self._waiting = 0

    async def fetch(self, url: str) -> bytes:
        """The bytes behind an http, https or `data:` URL, at most 20 MiB; what they are is for the decoder to say.

        InvalidRequest says why not, without a word of what the server answered. Unavailable where too many wait.
        """
        if url[:5].lower() == "data:":
            return await asyncio.to_thread(_inline, url)
        parsed = parse(url)
        async with self._turn():
            try:
                async with asyncio.timeout(FETCH_SECONDS):
                    return await self._follow(parsed)
            except TimeoutError:
                raise InvalidRequest(f"The image could not be fetched within {FETCH_SECONDS:.0f} seconds.") from None

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._waiting >= _MOST_WAITING:
            raise Unavailable("Too many images are being fetched. Try again in a moment.")
        self._waiting += 1
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._running.acquire()
        except TimeoutError:
            raise Unavailable("Too many images are being fetched. Try again in a moment.") from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._running.release()

    async def _follow(self, url: Url) -> bytes:
        for _ in range(_MOST_REDIRECTS + 1):
            answer = await self._ask(url)
            if answer.status == 200:
                return answer.body
            if answer.status not in _REDIRECTS or answer.location is None:
                raise InvalidRequest(f"The image's server answered with status {answer.status}.")
            before, url = url, follow(url, answer.location)
            if before.scheme == "https" and url.scheme == "http":
                raise InvalidRequest("The image URL redirects from https to http, which is not followed.")
        raise InvalidRequest(f"The image URL redirects more than {_MOST_REDIRECTS} times.")

    async def _ask(self, url: Url) -> Answer:
        addresses = [url.host] if not isinstance(url.host, str) else await self._addresses(url.host)
        self._private_hosts.check(url, addresses)
        connected = await self._connected(url, addresses)
        try:
            return await get(connected, url, self._tls if url.scheme == "https" else None)
        except ssl.SSLError:
            raise InvalidRequest("The image's server has no valid certificate for its name.") from None
        except (OSError, Broken):
            raise InvalidRequest("The image's server broke off, or its answer is no valid HTTP.") from None

    async def _addresses(self, name: str) -> list[Address]:
        try:
            addresses = await self._resolve(name)
        except (OSError, UnicodeError):
            addresses = []
        if not addresses or len(addresses) > _MOST_ADDRESSES:
            raise InvalidRequest("The image URL's host cannot be found.")
        return addresses

    async def _connected(self, url: Url, addresses: list[Address]) -> socket.socket:
        """A connection to one of the addresses that were checked."""
        for address in addresses[:_ADDRESSES_TRIED]:
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    return await self._connect(address, url.port)
            except (OSError, TimeoutError):
                continue
        raise InvalidRequest("The image's server cannot be reached.")

    async def _ask_system(self, name: str) -> list[Address]:
        return await asyncio.get_running_loop().run_in_executor(self._lookups, _look_up, name)

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return self._given_tls or ssl.create_default_context()


async def connect_to(address: Address, port: int) -> socket.socket:
    """A socket that is connected to just this address. OSError where nobody listens."""
    family = socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.settimeout(0)  # does not block
        await asyncio.get_running_loop().sock_connect(made, (str(address), port))
    except BaseException:
        made.close()
        raise
    return made


def _look_up(name: str) -> list[Address]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [ip_address(str(address[0])) for _, _, _, _, address in found]


def _inline(url: str) -> bytes:
    """The bytes of a `data:` URL."""
    head = _DATA.match(url[:1024])
    if head is None:
        raise InvalidRequest("The data: URL must begin with data:image/TYPE;base64, and go on with the image.")
    if len(url) - head.end() > _LONGEST_BASE64:
        raise too_large()
    try:
        content = binascii.a2b_base64(url[head.end() :], strict_mode=True)
    except ValueError:
        raise InvalidRequest("The data: URL does not hold valid base64.") from None
    if len(content) > LARGEST_IMAGE_BYTES:
        raise too_large()
    return content
