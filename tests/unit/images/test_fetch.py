"""How images are fetched, and in which words it is refused."""

import asyncio
import base64
from pathlib import Path

import pytest

from leadline.errors import InvalidRequest, Unavailable
from leadline.images import fetch, transfer
from tests.scripted.internet import CERTIFIED, IMAGE, PUBLIC, Internet, answer, redirect

DEADLINE_SECONDS = 30
URL = "http://public.example/image.png"


async def refusal(internet: Internet, url: str = URL, *private_hosts: str) -> str:
    """Why it is refused."""
    with pytest.raises(InvalidRequest) as refused:
        await internet.fetcher(*private_hosts).fetch(url)
    return str(refused.value)


@pytest.fixture
async def internet():
    async with Internet() as made:
        made.hosts["public.example"] = [[PUBLIC]]
        yield made


async def test_a_request_says_only_what_it_must(internet: Internet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert await internet.fetcher().fetch("http://Public.example:80/a/\u00e4?b=c#d") == IMAGE
    [head] = internet.heads
    first, *lines = head.strip().split("\r\n")
    assert first == "GET /a/%C3%A4?b=c HTTP/1.1"
    assert "Host: public.example" in lines
    assert {line.split(":")[0] for line in lines} == {"Host", "User-Agent", "Accept", "Connection"}


async def test_a_host_is_resolved_once_and_asked_at_its_address(internet: Internet):
    await internet.fetcher().fetch(URL)
    assert internet.asked == 1
    assert internet.dialled == [(PUBLIC, 80)]


async def test_an_address_that_is_away_is_followed_by_the_next(internet: Internet):
    internet.hosts["public.example"] = [["93.184.217.1", PUBLIC]]
    connect = internet.connect

    async def away(address, port):
        if str(address) != PUBLIC:
            raise ConnectionRefusedError
        return await connect(address, port)

    internet.connect = away
    assert await internet.fetcher().fetch(URL) == IMAGE


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_three_redirects_are_followed_and_a_fourth_is_not(internet: Internet, status: int):
    assert await internet.fetcher().fetch(redirect(status, "/1", "/2", "/image.png")) == IMAGE
    assert "redirects more than 3 times" in await refusal(internet, redirect(status, "/1", "/2", "/3", "/image.png"))


async def test_a_redirect_is_checked_from_the_start(internet: Internet):
    assert "private or reserved" in await refusal(internet, redirect(302, "http://10.0.0.1/"))
    assert "user name" in await refusal(internet, redirect(302, "http://a:b@public.example/"))
    assert "must begin with" in await refusal(internet, redirect(302, "ftp://public.example/"))
    assert internet.hits == 0


@pytest.mark.parametrize("status", [204, 206, 304, 400, 401, 403, 404, 500])
async def test_another_status_is_named(internet: Internet, status: int):
    internet.pages["/image.png"] = answer(status, b"" if status in (204, 304) else b"secrets", X_Secret="secret")
    assert await refusal(internet) == f"The image's server answered with status {status}."


async def test_a_redirect_to_nowhere_is_a_status(internet: Internet):
    internet.pages["/image.png"] = answer(302)
    assert await refusal(internet) == "The image's server answered with status 302."


async def test_https_is_verified_against_the_name(internet: Internet, tmp_path: Path):
    trusting = await internet.listen_with_tls(tmp_path)
    internet.hosts |= {CERTIFIED: [[PUBLIC]], "other.example": [[PUBLIC]]}
    fetcher = internet.fetcher(tls=trusting)
    assert await fetcher.fetch(f"https://{CERTIFIED}/x") == IMAGE
    for url in ("https://other.example/", f"https://{PUBLIC}/"):
        with pytest.raises(InvalidRequest, match="no valid certificate for its name"):
            await fetcher.fetch(url)
    with pytest.raises(InvalidRequest, match="no valid certificate for its name"):
        await internet.fetcher().fetch(f"https://{CERTIFIED}/")
    assert len(internet.heads) == 1


async def test_https_does_not_lead_to_http(internet: Internet, tmp_path: Path):
    trusting = await internet.listen_with_tls(tmp_path)
    internet.hosts[CERTIFIED] = [[PUBLIC]]
    with pytest.raises(InvalidRequest, match="from https to http"):
        await internet.fetcher(tls=trusting).fetch(
            redirect(302, URL).replace("http://public.example", f"https://{CERTIFIED}")
        )
    assert len(internet.heads) == 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch):
    """Bounds that are quickly reached."""
    monkeypatch.setattr(transfer, "LARGEST_IMAGE_BYTES", 1000)
    monkeypatch.setattr(transfer, "_LARGEST_ANSWER_BYTES", 3000)
    monkeypatch.setattr(transfer, "_LARGEST_HEAD_BYTES", 500)


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: "
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOO_LARGE = [
    LENGTH + b"1001\r\n\r\n",
    LENGTH + b"99999999999999999999999\r\n\r\n",
    LENGTH + b"1001\r\n\r\n" + b"x" * 1001,
    b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
    CHUNKED + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
    CHUNKED + b"1\r\nx\r\n" * 501 + b"0\r\n\r\n",
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("page", TOO_LARGE, ids=range(len(TOO_LARGE)))
async def test_what_is_too_large_is_not_read(internet: Internet, page: bytes):
    internet.pages["/image.png"] = page
    why = await refusal(internet)
    assert "larger than" in why or "no valid HTTP" in why  # a length beyond all numbers


NO_HTTP = [
    *(b"", b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x16\x03\x01"),
    *(
        LENGTH + b"10\r\n\r\nshort",
        LENGTH + b"-1\r\n\r\n",
        LENGTH + b"x\r\n\r\n",
        CHUNKED + b"5\r\nab",
        CHUNKED + b"z\r\n",
    ),
    *(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 600 + b"\r\n\r\nbody", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 100),
    *(b"HTTP/1.1 200 " + b"x" * 600, CHUNKED + b"0\r\n" + b"a: b\r\n" * 300 + b"\r\n"),
    *(
        LENGTH + b"3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    ),
]


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("page", NO_HTTP, ids=range(len(NO_HTTP)))
async def test_what_is_no_http_is_refused(internet: Internet, page: bytes):
    internet.pages["/image.png"] = page
    assert await refusal(internet) == "The image's server broke off, or its answer is no valid HTTP."


@pytest.mark.parametrize(
    "page",
    [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
        CHUNKED + b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
        LENGTH + b"3\r\nContent-Encoding: gzip\r\nContent-Type: text/html\r\n\r\nabc",
        LENGTH + b"3\r\nSet-Cookie: a=b\r\n\r\nabc and more",
    ],
)
async def test_bodies_are_read_as_they_are(internet: Internet, page: bytes):
    internet.pages["/image.png"] = page
    assert await internet.fetcher().fetch(URL) == b"abc"


@pytest.mark.parametrize("target", ["silent", "stalled"])
async def test_a_server_that_does_not_go_on_is_too_slow(
    internet: Internet, monkeypatch: pytest.MonkeyPatch, target: str
):
    monkeypatch.setattr(fetch, "FETCH_SECONDS", 0.05)
    assert "could not be fetched within" in await refusal(internet, f"http://public.example/{target}")


async def test_a_name_that_is_not_there_or_has_no_server(internet: Internet):
    assert await refusal(internet, "http://nobody.example/") == "The image URL's host cannot be found."
    internet.hosts["crowd.example"] = [[f"93.184.216.{number}" for number in range(65)]]
    assert await refusal(internet, "http://crowd.example/") == "The image URL's host cannot be found."

    async def refused(*_):
        raise ConnectionRefusedError

    internet.connect = refused
    assert await refusal(internet) == "The image's server cannot be reached."


async def test_more_than_may_run_wait_and_more_than_may_wait_are_sent_away(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fetch, "_MOST_WAITING", 1)
    fetcher = internet.fetcher()
    silent = [asyncio.create_task(fetcher.fetch("http://public.example/silent")) for _ in range(16)]
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(internet.heads) < 16:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(fetcher.fetch(URL))
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await fetcher.fetch(URL)
        silent.pop().cancel()
        assert await waiting == IMAGE
    for task in silent:
        task.cancel()
    await asyncio.gather(*silent, return_exceptions=True)


async def test_data_urls_hold_their_image(internet: Internet):
    fetcher = internet.fetcher()
    encoded = base64.b64encode(IMAGE).decode()
    for head in ("data:image/png;base64,", "DATA:Image/JPEG;Base64,", "data:image/svg+xml;charset=utf-8;base64,"):
        assert await fetcher.fetch(head + encoded) == IMAGE


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("data:", "must begin with data:image/"),
        ("data:text/html;base64,AAAA", "must begin with data:image/"),
        ("data:video/mp4;base64,AAAA", "must begin with data:image/"),
        ("data:image/png,AAAA", "must begin with data:image/"),
        ("data:image/png;" + "a=b;" * 5000 + "base64,AAAA", "must begin with data:image/"),
        ("data:image/png;base64,AA=A", "valid base64"),
        ("data:image/png;base64,AAA", "valid base64"),
        ("data:image/png;base64,AA\nAA", "valid base64"),
        ("data:image/png;base64,\u00e4AAA", "valid base64"),
        ("data:image/png;base64,AA_-", "valid base64"),
    ],
)
async def test_other_data_urls_are_refused(internet: Internet, url: str, why: str):
    assert why in await refusal(internet, url)


async def test_a_data_url_is_measured_before_it_is_decoded(internet: Internet, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(fetch, "LARGEST_IMAGE_BYTES", 4)
    monkeypatch.setattr(fetch, "_LONGEST_BASE64", 8)
    assert await internet.fetcher().fetch("data:image/png;base64,AAAAAA==") == bytes(4)
    for content in ("AAAAAAA=", "A" * 12, "?" * 12):
        assert "larger than" in await refusal(internet, f"data:image/png;base64,{content}")
