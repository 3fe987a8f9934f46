"""Whatever URL an image has, no server is asked that its user could not reach himself. Canaries stand behind all of
these addresses; two bugs are planted that let them be reached."""

import ipaddress
import socket
from typing import Any

import pytest

from leadline.errors import InvalidRequest
from leadline.images import hosts, networks
from leadline.images.fetch import ImageFetcher
from leadline.images.networks import Address
from leadline.images.url import Url
from tests.faults.hostile_urls import PRIVATE_V4, PRIVATE_V6, Hostile, corpus
from tests.proof import keep
from tests.scripted.internet import CERTIFIED, IMAGE, PUBLIC, PUBLIC_V6, Internet, redirect


async def hits(urls: list[Hostile]) -> int:
    """How often a canary was reached. Whatever must be refused was."""
    passed = []
    async with Internet() as internet:
        for hostile in urls:
            internet.hosts = {name: list(answers) for name, answers in hostile.hosts.items()}
            fetcher = internet.fetcher()
            try:
                await fetcher.fetch(hostile.url)
                if hostile.refused:
                    passed.append(hostile.url)
            except InvalidRequest as error:
                assert_leaks_nothing(str(error))
        reached = internet.hits + sum(1 for address, _ in internet.dialled if address not in (PUBLIC, PUBLIC_V6))
    assert reached > 0 or passed == []
    return reached


def assert_leaks_nothing(sentence: str) -> None:
    assert "Errno" not in sentence
    assert not any(text in sentence for text in PRIVATE_V4)
    assert "nobody may see" not in sentence


async def test_no_hostile_url_reaches_a_server():
    urls = corpus()
    assert len(urls) >= 600
    found = await hits(urls)
    keep("hostile_urls", urls=len(urls), reached=found)
    assert found == 0


def test_the_corpus_has_an_address_of_each_network():
    private = [ipaddress.ip_address(text) for text in (*PRIVATE_V4, *PRIVATE_V6)]
    table = (*networks._NOT_PUBLIC_V4, *networks._NOT_PUBLIC_V6)
    # 6to4 is among the networks that embed an address of IPv4.
    assert [str(one) for one in table if not any(address in one for address in private)] == ["2002::/16"]


async def test_the_corpus_finds_a_check_by_is_global(monkeypatch: pytest.MonkeyPatch):
    """A planted bug: the standard library's table in place of ours."""
    monkeypatch.setattr(hosts, "is_public", lambda address: address.is_global)
    assert await hits(corpus()) > 0


async def test_the_corpus_finds_a_connection_by_name(monkeypatch: pytest.MonkeyPatch):
    """A planted bug: what was checked is asked for again when the connection is made."""

    async def by_name(fetcher: Any, url: Url, _: list[Address]) -> socket.socket:
        [address, *_] = [url.host] if not isinstance(url.host, str) else await fetcher._addresses(url.host)
        return await fetcher._connect(address, url.port)

    monkeypatch.setattr(ImageFetcher, "_connected", by_name)
    assert await hits(corpus()) > 0


async def test_the_systems_own_connections_reach_no_canary():
    """Without a resolver and a connector of ours, and at the port where the canary listens."""
    async with Internet() as internet:
        fetcher = ImageFetcher(hosts.PrivateHosts())
        for host, version in (("127.0.0.1", 4), ("localhost", 4), ("127.1", 4), ("[::1]", 6), ("[::ffff:7f00:1]", 4)):
            with pytest.raises(InvalidRequest):
                await fetcher.fetch(f"http://{host}:{internet.canary_port(version)}/")
        fetcher.close()
        assert internet.hits == 0


async def test_the_systems_own_connections_reach_what_is_allowed():
    """The canary does answer who may ask it, so that its silence means something."""
    async with Internet() as internet:
        fetcher = ImageFetcher(hosts.PrivateHosts.of(("localhost",)))
        assert await fetcher.fetch(f"http://localhost:{internet.canary_port(4)}/") == b"what nobody may see"
        fetcher.close()
        assert internet.hits == 1


GOOD_PATHS = (
    *("", "/", "/image.png", "/a/b/../c.png", "/a%20b.png", "/\u00e4\u00f6.png", "/x?y=http://127.0.0.1/", "?q=@x"),
    *("/x#fragment", "/a@b:c/d", "/%00", "/x;y=z,w", "/~a/'b'/(c)!*", "/x?a[]=1&b={2}|3", "/.//.."),
)
GOOD_HOSTS = ("public.example", "PUBLIC.Example", "public.example.", "public.example:80", "b\u00fccher.example", PUBLIC)
GOOD_REDIRECTS = (
    *("/image.png", "../../x.png", "//public.example/x", "http://xn--bcher-kva.example/", "./../../a/../b?x#y"),
)
PRIVATE = {"pictures.internal": [["10.1.2.3"]], "any.example": [["192.168.7.7"]]}
GOOD_PRIVATE = (
    *("http://pictures.internal/", "http://pictures.internal:8080/x", "http://10.9.9.9:9000/", "http://10.9.9.9/"),
    *("http://any.example:81/", "http://[fd00::7]:1234/x", "http://any.example/", "http://192.168.7.1:99/"),
)


async def test_good_urls_pass(tmp_path):
    urls = [f"http://{host}{path}" for host in GOOD_HOSTS[:2] for path in GOOD_PATHS]
    urls += [f"http://{host}/image.png" for host in GOOD_HOSTS[2:]] + [
        f"http://[{PUBLIC_V6}]/x",
        "HTTP://public.example",
    ]
    urls += [redirect(302 + 5 * (number % 2), to) for number, to in enumerate(GOOD_REDIRECTS)] + list(GOOD_PRIVATE)
    urls += [f"https://{CERTIFIED}/x", redirect(301, f"https://{CERTIFIED}:443/"), redirect(303, "/a", "/b", "/c")]
    assert len(urls) >= 50
    async with Internet() as internet:
        trusting = await internet.listen_with_tls(tmp_path)
        internet.hosts = PRIVATE | {
            name: [[PUBLIC_V6, PUBLIC]] for name in ("public.example", "xn--bcher-kva.example", CERTIFIED)
        }
        internet.networks += hosts.PrivateHosts.of(("10.0.0.0/8", "192.168.7.0/24", "fd00::/8")).networks
        fetcher = internet.fetcher("Pictures.Internal", "10.9.9.9", "192.168.7.0/24", "fd00::7", tls=trusting)
        assert [url for url in urls if await fetcher.fetch(url) != IMAGE] == []
        assert internet.hits == 0
