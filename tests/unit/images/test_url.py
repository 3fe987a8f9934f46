"""The parser of image URLs: what it takes, what it refuses, and where redirects lead."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leadline.config import ConfigurationError
from leadline.errors import InvalidRequest
from leadline.images.hosts import PrivateHosts
from leadline.images.networks import is_public
from leadline.images.url import Url, follow, parse


@pytest.mark.parametrize(
    ("text", "host", "port", "target"),
    [
        ("http://a.example", "a.example", 80, "/"),
        ("HTTPS://A.Example.:443?b#c", "a.example", 443, "/?b"),
        ("http://a.example:8080/b c".replace(" ", "%20"), "a.example", 8080, "/b%20c"),
        ("http://a_b.example/\u00e4?\u00f6=[]|^%", "a_b.example", 80, "/%C3%A4?%C3%B6=[]|^%"),
        ("http://B\u00dcCHER.example/", "xn--bcher-kva.example", 80, "/"),
        ("http://1.example/@:/", "1.example", 80, "/@:/"),
        ("http://8.8.8.8:81", ipaddress.ip_address("8.8.8.8"), 81, "/"),
        ("http://[2606:2800:0:0::1]:82/", ipaddress.ip_address("2606:2800::1"), 82, "/"),
    ],
)
def test_a_url_is_read_in_one_way(text, host, port, target):
    scheme = text.partition(":")[0].lower()
    assert parse(text) == Url(scheme, host, port, target)


def test_the_host_header_has_brackets_and_only_another_port():
    assert parse("http://a.example:80/").authority == "a.example"
    assert parse("https://a.example:80/").authority == "a.example:80"
    assert parse("https://[2606::1]/").authority == "[2606::1]"
    assert parse("https://[2606::1]:1/").authority == "[2606::1]:1"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a.example/image.png", "must begin with"),
        ("ftp://a.example/", "must begin with"),
        ("http://u:p@a.example/", "user name"),
        ("http://a.example\\b/", "backslash"),
        ("http://a.example/a b", "space"),
        ("http://a.example/\ud800", "control character"),
        ("http://a.example:x/", "valid host and port"),
        ("http://a.example:99999/", "valid port"),
        ("http://[::1%25lo]/", "valid host and port"),
        ("http://[1::2::3]/", "valid IPv6"),
        ("http://0x7f.1/", "four decimal numbers"),
        ("http://1.2.3/", "four decimal numbers"),
        ("http://a.example.1/", "four decimal numbers"),
        ("http://1.2.3.256/", "valid IPv4"),
        ("http://a..example/", "valid name"),
        ("http://-a.example/", "valid name"),
        ("http://%61.example/", "valid name"),
        ("http://" + "a." * 130 + "example/", "valid name"),
        ("http://\u2460.example/", "internationalised"),
        ("http://a\u3002example/", "internationalised"),
        ("http://a.example/" + "a" * 8192, "longer than 8192"),
    ],
)
def test_a_refusal_says_why(text, why):
    with pytest.raises(InvalidRequest, match=why):
        parse(text)


@given(st.text() | st.from_regex(r"https?://[^/]{1,20}/.{0,20}"))
def test_any_text_is_read_or_refused(text):
    try:
        url = parse(text)
    except InvalidRequest:
        return
    assert url.target.isascii()
    assert parse(f"{url.scheme}://{url.authority}{url.target}") == url


@pytest.mark.parametrize(
    ("location", "leads_to"),
    [
        ("", "http://a.example/b/c?d"),
        ("#e", "http://a.example/b/c?d"),
        ("?e=\u00e4", "http://a.example/b/c?e=%C3%A4"),
        ("e", "http://a.example/b/e"),
        ("../../e?../f", "http://a.example/e?../f"),
        ("./..", "http://a.example/"),
        ("/e/./f/..", "http://a.example/e/"),
        ("//E.example", "http://e.example/"),
        ("https://e.example/f", "https://e.example/f"),
    ],
)
def test_a_redirect_leads_on(location, leads_to):
    assert follow(parse("http://a.example/b/c?d"), location) == parse(leads_to)


def test_the_ends_of_networks_are_where_they_are():
    inside = (
        "9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 172.15.255.255 172.32.0.0 223.255.255.255"
    )
    for text in (*inside.split(), "2001:200::", "2003::", "2606:4700::1", "3fff:1000::"):
        assert is_public(ipaddress.ip_address(text)), text
    for text in (
        "10.255.255.255",
        "100.127.255.255",
        "172.31.255.255",
        "224.0.0.0",
        "2001:1ff::",
        "3fff:fff::",
        "2000::1%1",
    ):
        assert not is_public(ipaddress.ip_address(text)), text


def test_private_hosts_are_allowed_one_by_one():
    allowed = PrivateHosts.of(("Images.Internal.", "10.0.0.0/8", "fd00::1"))
    ten, other = ipaddress.ip_address("10.1.1.1"), ipaddress.ip_address("192.168.0.1")
    public = ipaddress.ip_address("8.8.8.8")
    allowed.check(parse("http://images.internal:9/"), [other])
    allowed.check(parse("http://a.example:9/"), [ten])
    allowed.check(parse("http://a.example:80/"), [ten, public])
    for url, addresses in (("http://a.example/", [ten, other]), ("http://a.example:9/", [ten, public])):
        with pytest.raises(InvalidRequest):
            allowed.check(parse(url), addresses)


@pytest.mark.parametrize("entry", ["10.0.0.1/8", "a b", "http://a.example", "127.1", "", "a.example:80"])
def test_a_wrong_entry_is_named(entry):
    with pytest.raises(ConfigurationError, match=r"images\.allow_private_hosts"):
        PrivateHosts.of((entry,))
