"""Hundreds of URLs, made from tables, behind each of which a server would be that no user may reach."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.scripted.internet import PUBLIC, PUBLIC_V6, redirect

# One address or more of each network of IPv4 that is not public.
PRIVATE_V4 = (
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.254", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.8.8.8"),
    *("168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.254", "192.0.0.1"),
    *("192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.168.255.254"),
    *("192.175.48.1", "198.18.0.1", "198.19.255.254", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255"),
    *("240.0.0.1", "255.255.255.255"),
)
PRIVATE_V6 = (
    *("::", "::1", "::2", "::ffff:0:127.0.0.1", "64:ff9b:1::1", "64:ff9b:1:7f00:1::", "100::1", "100:0:0:1::1"),
    *("1fff::1", "2001::1", "2001:0:7f00:1::", "2001:1::1", "2001:2::1", "2001:3::1", "2001:4:112::1", "2001:10::1"),
    *("2001:20::1", "2001:30::1", "2001:db8::1", "2620:4f:8000::1", "3ffe::1", "3fff::1", "4000::1", "5f00::1"),
    *("8000::1", "fc00::1", "fd00:ec2::254", "fd12:3456::1", "fe80::1", "febf::1", "fec0::1", "fef0::1"),
    *("ff01::1", "ff02::1", "ff05::2", "ffff::1"),
)
# Networks of IPv6 that hold an address of IPv4 in their last bits, or in those after the first 16.
_EMBEDDING = ("::{low}", "::ffff:{low}", "::ffff:0:{low}", "64:ff9b::{low}", "64:ff9b:1::{low}", "2002:{high}::1")
_ODD_SCHEMES = (
    *("file:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1:70/_x", "unix:///run/x.sock", "ws://127.0.0.1/"),
    *(
        "http+unix://%2Frun%2Fx.sock/",
        "dict://127.0.0.1/",
        "ldap://127.0.0.1/",
        "jar:http://127.0.0.1/!/",
        "//127.0.0.1/",
    ),
    *("http:127.0.0.1", "http:/127.0.0.1/", "http:///127.0.0.1/", "http:////127.0.0.1/", "127.0.0.1", "", "http://"),
    *("https://", "http://?x", "http://#x", "http://:80/", "javascript:x", "netdoc:///etc/passwd", "tftp://127.0.0.1/"),
    *("blob:http://127.0.0.1/", "view-source:http://127.0.0.1/", "url:http://127.0.0.1/", "sftp://127.0.0.1/"),
    *("data:,http://127.0.0.1/", "data:text/html;base64,aHR0cA==", "data:video/mp4;base64,AAAA", "data:image/png,AAAA"),
    *("data:image/png;base64,AA AA", "data:image/png;base64,A", "DATA:image/svg+xml;utf8,<svg/>", "about:blank"),
)
# `{it}` is the address that one of two parsers would see.
_TRICKS = (
    *("http://{it}\\@public.example/", "http://public.example\\@{it}/", "http://public.example@{it}/"),
    *("http://public.example:80@{it}/", "http://public.example%40{it}/", "http://{it}%2f@public.example/"),
    *("http://public.example#@{it}\\", "http://public.example\\.{it}/", "http:\\\\{it}\\", "http:/\\{it}/"),
    *("http://{it} .public.example/", "http://{it}\t/", "http://\n{it}/", " http://{it}/", "http://{it}/\r\nHost: x"),
    *("http://{it}\x00.public.example/", "http://{it}%00.public.example/", "http://{it}\u2028/", "http://{it}\u00a0/"),
    *(
        "http://{it}:80:80/",
        "http://{it}:/",
        "http://{it}:0/",
        "http://{it}:65536/",
        "http://{it}:8O/",
        "http://{it}:\uff18\uff10/",
    ),
    *("http://{it}:6379/", "http://{it}:22/", "http://[{it}]/", "http://[{it}/", "http://{it}]/", "http://user@{it}/"),
    *("http://user:word@{it}/", "http://@{it}/", "http://:@{it}/", "http://public.example;@{it}/", "http://{it};x/"),
    *("http://public.example,{it}/", "http://{it}\u200b/", "http://\u202e{it}/", "http://{it}\u3002/", "hTTp://{it}/"),
    *("http://{it}?@public.example/", "http://{it}#@public.example/", "http://{it}:80#@public.example:80/"),
)
_STATUSES = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Hostile:
    """`hosts` is what names resolve to. `refused`: it cannot end well, which does not hold of names that change their
    answer once they were checked."""

    url: str
    hosts: dict[str, list[list[str]]] = field(default_factory=dict)
    refused: bool = True


def corpus() -> list[Hostile]:
    made = [*_numbers(), *_v6(), *_schemes(), *_tricks(), *_names(), *_redirects(), *_rebinding()]
    return list({hostile.url: hostile for hostile in made}.values())


def _numbers() -> Iterator[Hostile]:
    for text in PRIVATE_V4:
        for spelling in dict.fromkeys(spellings(text)):
            yield Hostile(f"http://{spelling}/image.png")


def spellings(text: str) -> Iterator[str]:
    """All that resolvers take for an address of IPv4, and what may become one by a mapping of Unicode."""
    number = int(ipaddress.IPv4Address(text))
    a, b, c, d = (int(part) for part in text.split("."))
    yield text
    yield f"{text}."
    yield from (f"{number}", f"{number:#x}", f"0X{number:X}", f"0{number:o}", f"0x0000{number:x}")
    yield from (f"{a:#x}.{b:#x}.{c:#x}.{d:#x}", f"0{a:o}.0{b:o}.0{c:o}.0{d:o}", f"{a:03}.{b:03}.{c:03}.{d:03}")
    yield from (f"{a:#x}.{b}.0{c:o}.{d}", f"{a}.{b}.{c * 256 + d}", f"{a}.{number & 0xFFFFFF}")
    yield text.translate({ord(digit): 0xFF10 + int(digit) for digit in "0123456789"})
    yield text.replace(".", "\u3002")


def _v6() -> Iterator[Hostile]:
    for text in PRIVATE_V6:
        address = ipaddress.IPv6Address(text)
        for spelling in dict.fromkeys((text, address.exploded, text.upper())):
            yield Hostile(f"http://[{spelling}]/image.png")
        for zone in ("%25lo", "%lo", "%1"):
            yield Hostile(f"http://[{text}{zone}]/")
    for text in ("127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.0.1", PUBLIC):
        number = int(ipaddress.IPv4Address(text))
        high = f"{number >> 16:x}:{number & 0xFFFF:x}"
        for pattern in _EMBEDDING:
            yield Hostile(f"http://[{pattern.format(low=text, high=high)}]/")
            yield Hostile(f"http://[{pattern.format(low=high, high=high)}]/")


def _schemes() -> Iterator[Hostile]:
    yield from (Hostile(url) for url in _ODD_SCHEMES)


def _tricks() -> Iterator[Hostile]:
    for pattern in _TRICKS:
        for text in ("127.0.0.1", "[::1]", "169.254.169.254"):
            yield Hostile(pattern.format(it=text), {"public.example": [[PUBLIC]]})


def _names() -> Iterator[Hostile]:
    """Names with a private address, alone or beside public ones, whichever comes first."""
    for number, text in enumerate((*PRIVATE_V4, *PRIVATE_V6, "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::")):
        name = f"private-{number}.example"
        yield Hostile(f"http://{name}/", {name: [[text]]})
        yield Hostile(f"http://before.{name}/", {f"before.{name}": [[text, PUBLIC]]})
        yield Hostile(f"http://after.{name}/", {f"after.{name}": [[PUBLIC, PUBLIC_V6, text]]})
    for name in ("localhost", "LOCALHOST", "localhost.", "metadata.google.internal", "db", "b\u00fccher.example"):
        yield Hostile(f"http://{name}/", {name.lower().removesuffix("."): [["127.0.0.1"]]})
    yield Hostile("http://public.example:8080/", {"public.example": [[PUBLIC]]})
    yield Hostile("https://public.example:22/", {"public.example": [[PUBLIC]]})


def _redirects() -> Iterator[Hostile]:
    hosts = {"public.example": [[PUBLIC]], "private.example": [["10.0.0.1"]]}
    ends = (
        *(
            "http://127.0.0.1/",
            "http://[::1]/",
            "http://169.254.169.254/latest/meta-data/",
            "//10.0.0.1/",
            "//[fd00::1]/",
        ),
        *("http://0x7f.1/", "http://2130706433/", "http://private.example/", "http://public.example:6379/"),
        *("file:///etc/passwd", "http://x@127.0.0.1/", "http://public.example\\@127.0.0.1/", "gopher://127.0.0.1/"),
        *("http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[::127.0.0.1]/", "\\\\127.0.0.1\\x"),
        *("http://168.63.129.16/", "///127.0.0.1/\\", "http://127.1/", "data:image/png;base64,AAAA"),
    )
    for status in _STATUSES:
        for end in ends:
            yield Hostile(redirect(status, end), hosts)
        for length in (2, 3, 4, 9):
            yield Hostile(redirect(status, *["http://127.0.0.1/"] * length), hosts)
        yield Hostile(redirect(status, *["http://public.example/image.png"] * 4), hosts)


def _rebinding() -> Iterator[Hostile]:
    """Names that are public when they are first asked for, and private ever after."""
    for number, text in enumerate(("127.0.0.1", "::1", "169.254.169.254", "10.0.0.1", "192.168.0.1", "fd00::1")):
        name = f"flips-{number}.example"
        yield Hostile(f"http://{name}/image.png", {name: [[PUBLIC], [text]]}, refused=False)
        mixed = f"mixed-{name}"
        yield Hostile(f"http://{mixed}/image.png", {mixed: [[PUBLIC_V6, PUBLIC], [PUBLIC, text]]}, refused=False)
        again = f"again-{name}"
        for status in _STATUSES:
            url = redirect(status, f"http://{again}/image.png", host=again)
            yield Hostile(f"{url}?{number}", {again: [[PUBLIC], [text]]})
