"""The one parser of image URLs: what is checked is what is fetched.

It takes less than browsers do. What two parsers could read in two ways is refused: credentials, backslashes, control
characters, zone ids, escaped hosts, and IPv4 addresses in any spelling but four plain decimal numbers.
"""

import re
from dataclasses import dataclass, replace
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from urllib.parse import quote

import idna

from leadline.errors import InvalidRequest
from leadline.images.networks import Address

LONGEST_URL_CHARACTERS = 8192
_PORTS = {"http": 80, "https": 443}
_ABSOLUTE = re.compile(r"(?P<scheme>https?)://(?P<authority>[^/?#]*)(?P<target>[^#]*)(#.*)?", re.IGNORECASE)
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:(?P<port>[0-9]{1,5}))?")
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DOTTED = re.compile(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}")
# Spaces and control characters of all of Unicode, what is invisible, and what no text may hold.
_NEVER = re.compile(
    r"[\x00-\x20\x7f-\xa0\\\u00ad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff0-\uffff\ud800-\udfff]"
)
# All characters that a request line may hold; anything else is sent as escaped UTF-8.
_PLAIN = "".join(chr(code) for code in range(0x21, 0x7F))
_LONGEST_NAME = 253


@dataclass(frozen=True, slots=True)
class Url:
    """`host` is a lower-case ASCII name or an address; `target` is what stands in the request line."""

    scheme: str
    host: str | Address
    port: int
    target: str

    @property
    def authority(self) -> str:
        """As it stands in the Host header: without the scheme's own port."""
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse(text: str) -> Url:
    """An absolute http or https URL. InvalidRequest says what is wrong with any other."""
    _check_characters(text)
    parts = _ABSOLUTE.fullmatch(text)
    if parts is None:
        raise InvalidRequest("The image URL must begin with https://, http:// or data:image/.")
    scheme = parts["scheme"].lower()
    if "@" in parts["authority"]:
        raise InvalidRequest("The image URL must not hold a user name or password.")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise InvalidRequest("The image URL has no valid host and port.")
    port = int(authority["port"] or _PORTS[scheme])
    if not 0 < port < 65536:
        raise InvalidRequest("The image URL has no valid port.")
    target = quote(parts["target"], safe=_PLAIN)
    return Url(scheme, _host(authority["host"]), port, target if target.startswith("/") else f"/{target}")


def follow(url: Url, location: str) -> Url:
    """Where a redirect from `url` leads. It may be absolute, or relative to `url`."""
    _check_characters(location)
    if _HAS_SCHEME.match(location):
        return parse(location)
    if location.startswith("//"):
        return parse(f"{url.scheme}:{location}")
    reference = location.partition("#")[0]
    path = url.target.partition("?")[0]
    if not reference:
        target = url.target
    elif reference.startswith("?"):
        target = path + reference
    else:
        target = reference if reference.startswith("/") else path.rpartition("/")[0] + "/" + reference
        path, mark, query = target.partition("?")
        target = _without_dots(path) + mark + query
    return replace(url, target=quote(target, safe=_PLAIN))


def _check_characters(text: str) -> None:
    if len(text) > LONGEST_URL_CHARACTERS:
        raise InvalidRequest(f"The image URL is longer than {LONGEST_URL_CHARACTERS} characters.")
    if _NEVER.search(text):
        raise InvalidRequest("The image URL holds a space, a backslash or a control character. Escape it.")


def _host(text: str) -> str | Address:
    if text.startswith("["):
        try:
            return IPv6Address(text[1:-1])
        except AddressValueError:
            raise InvalidRequest("The image URL has no valid IPv6 address.") from None
    return host_of(text)


def host_of(text: str) -> str | IPv4Address:
    """A host name, or an IPv4 address in its plain spelling, in the one form in which hosts are compared."""
    name = _ascii(text).lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        # Resolvers read such a host as a number: 127.1, 0x7f000001 and 017700000001 are all loopback to them.
        if not _DOTTED.fullmatch(name):
            raise InvalidRequest("The image URL's host is a number. Write an IPv4 address as four decimal numbers.")
        try:
            return IPv4Address(name)
        except AddressValueError:
            raise InvalidRequest("The image URL has no valid IPv4 address.") from None
    if len(name) > _LONGEST_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidRequest("The image URL's host is no valid name.")
    return name


def _ascii(name: str) -> str:
    """By IDNA 2008, without the mappings of browsers: they make digits and dots of what looks like them."""
    if name.isascii():
        return name
    try:
        labels = [label if label.isascii() else idna.alabel(label.lower()).decode("ascii") for label in name.split(".")]
    except (idna.IDNAError, UnicodeError):
        raise InvalidRequest("The image URL's host is no valid internationalised name.") from None
    return ".".join(labels)


def _without_dots(path: str) -> str:
    """The path after its `.` and `..` are followed."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if segments[-1] in (".", "..") and kept else "")
