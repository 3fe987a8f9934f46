"""What a browser is called, of what it says of itself: enough to know one's own again."""

import re

# The first that is found: browsers name those that they resemble, too.
_BROWSERS = (
    (r"\bEdgA?/|\bEdgiOS/", "Edge"),
    (r"\bOPR/|\bOpera\b", "Opera"),
    (r"\bVivaldi/", "Vivaldi"),
    (r"\bSamsungBrowser/", "Samsung Internet"),
    (r"\bFirefox/|\bFxiOS/", "Firefox"),
    (r"\bChrome/|\bCriOS/|\bHeadlessChrome/|\bChromium/", "Chrome"),
    (r"\bSafari/", "Safari"),
)
_SYSTEMS = (
    (r"\biPhone\b", "iPhone"),
    (r"\biPad\b", "iPad"),
    (r"\bAndroid\b", "Android"),
    (r"\bWindows\b", "Windows"),
    (r"\bMac OS X\b|\bMacintosh\b", "macOS"),
    (r"\bCrOS\b", "ChromeOS"),
    (r"\bLinux\b|\bX11\b", "Linux"),
)
_LONGEST = 40


def device_of(agent: str) -> str:
    """Such as `Firefox on Linux`, without versions: an update makes no other device."""
    browser, system = _first(_BROWSERS, agent), _first(_SYSTEMS, agent)
    if browser is None:
        # A program rather than a browser begins with its name.
        named = re.match(r"[\w.+-]{1,40}", agent)
        browser = named[0] if named is not None and named[0] != "Mozilla" else "Unknown browser"
    return browser if system is None else f"{browser[:_LONGEST]} on {system}"


def _first(names: tuple[tuple[str, str], ...], agent: str) -> str | None:
    return next((name for pattern, name in names if re.search(pattern, agent)), None)
