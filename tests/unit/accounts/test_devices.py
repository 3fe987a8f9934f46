"""What browsers are called, of what they say of themselves."""

import pytest

from leadline.accounts.devices import device_of

_WEBKIT = "AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("agent", "device"),
    [
        ("Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0", "Firefox on Linux"),
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/150.0.0.0 Safari/537.36", "Chrome on Windows"),
        (f"Mozilla/5.0 (Windows NT 10.0) {_WEBKIT} Chrome/150.0 Safari/537.36 Edg/150.0", "Edge on Windows"),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Version/19.0 Safari/605.1.15", "Safari on macOS"),
        (f"Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) {_WEBKIT} Safari/604.1", "Safari on iPhone"),
        (f"Mozilla/5.0 (Linux; Android 16; Pixel 9) {_WEBKIT} Chrome/150.0 Mobile Safari/537.36", "Chrome on Android"),
        (f"Mozilla/5.0 (X11; CrOS x86_64 1) {_WEBKIT} Chrome/150.0 Safari/537.36", "Chrome on ChromeOS"),
        ("curl/8.7.1", "curl"),
        ("python-httpx/0.28", "python-httpx"),
        ("Mozilla/5.0", "Unknown browser"),
        ("", "Unknown browser"),
        ("=HYPERLINK(1)", "Unknown browser"),
    ],
)
def test_a_device_is_a_browser_and_a_system_without_versions(agent: str, device: str) -> None:
    assert device_of(agent) == device
