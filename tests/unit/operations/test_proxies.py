"""Where a request comes from: what the connection says, or a proxy that the configuration names."""

from typing import Any

import pytest

from leadline.operations.serve import _http_server

PROXY, CLIENT, OTHER = "127.0.0.1", "192.0.2.7", "198.51.100.9"


async def seen(trusted: tuple[str, ...], connected: str, *told: str) -> str:
    """The address that the application is given."""
    addresses: list[str] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        addresses.append(scope["client"][0])

    config = _http_server(application, trusted).config
    config.load()
    headers = [(b"x-forwarded-for", one.encode()) for one in told]
    scope = {"type": "http", "client": (connected, 5), "headers": headers, "scheme": "http"}
    await config.loaded_app(scope, None, None)
    return addresses[0]


@pytest.mark.parametrize(
    ("trusted", "connected", "told", "address"),
    [
        # Nobody is believed until he is named.
        ((), PROXY, (CLIENT,), PROXY),
        ((PROXY,), CLIENT, (OTHER,), CLIENT),
        # A named proxy is; what its client says of himself is not.
        ((PROXY,), PROXY, (CLIENT,), CLIENT),
        ((PROXY,), PROXY, (f"{OTHER}, {CLIENT}",), CLIENT),
        ((PROXY,), PROXY, (OTHER, CLIENT), CLIENT),
        ((PROXY,), PROXY, (f"{PROXY}, {OTHER}, {CLIENT}, {PROXY}",), CLIENT),
        (("127.0.0.0/8",), PROXY, (f"{OTHER}, {CLIENT}",), CLIENT),
        ((PROXY,), PROXY, (), PROXY),
    ],
)
async def test_a_proxys_word_counts_where_it_is_named(
    trusted: tuple[str, ...], connected: str, told: tuple[str, ...], address: str
) -> None:
    assert await seen(trusted, connected, *told) == address
