"""Keeps people from guessing: who fails too often waits, longer each time, and nobody is locked out for good.

An attempt counts before its outcome is known, so many at once are no way around. What is counted is in memory.
"""

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass

from leadline.clock import MICROSECONDS_PER_SECOND, Clock, now_microseconds
from leadline.errors import Refused

# So many attempts are free; then each doubles the wait, up to so many seconds.
_FREE_OF_PAIR, _LONGEST_OF_PAIR = 5, 900
_FREE_OF_ADDRESS, _LONGEST_OF_ADDRESS = 30, 900
# From all addresses together: somebody who is attacked can still sign in within a minute.
_FREE_OF_SUBJECT, _LONGEST_OF_SUBJECT = 20, 60
_FORGOTTEN_AFTER = 3600 * MICROSECONDS_PER_SECOND
MOST_KNOWN = 20_000


class TooManyAttempts(Refused):
    """Too many attempts. Wait, then try again."""

    should_retry = None

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many attempts. Try again in {seconds} {'second' if seconds == 1 else 'seconds'}.")
        self.retry_after_seconds: int = seconds


@dataclass(slots=True)
class _Attempts:
    count: int = 0
    last_at: int = 0
    not_before: int = 0


class Guard:
    """Counts attempts by what they are for (`sign in`), whom they are for (an e-mail) and from where they come."""

    def __init__(self, clock: Clock = now_microseconds) -> None:
        self._clock = clock
        self._known: OrderedDict[tuple[str, str, str], _Attempts] = OrderedDict()

    def attempt(self, purpose: str, subject: str, address: str) -> None:
        """Count one. TooManyAttempts where it comes too early: then it is not counted, and nothing may be done."""
        now, network, subject = self._clock(), network_of(address), subject.strip().lower()[:320]
        limits = (
            ((purpose, subject, network), _FREE_OF_PAIR, _LONGEST_OF_PAIR),
            ((purpose, "", network), _FREE_OF_ADDRESS, _LONGEST_OF_ADDRESS),
            ((purpose, subject, ""), _FREE_OF_SUBJECT, _LONGEST_OF_SUBJECT),
        )
        # What is refused leaves nothing behind: it costs its sender little, and would push out what is remembered.
        not_before = max(self._known[key].not_before if key in self._known else 0 for key, _, _ in limits)
        if now < not_before:
            raise TooManyAttempts(-(-(not_before - now) // MICROSECONDS_PER_SECOND))
        for key, free, longest in limits:
            attempts = self._of(key, now)
            attempts.count, attempts.last_at = attempts.count + 1, now
            if attempts.count >= free:
                seconds = min(longest, 2 ** min(attempts.count - free, 20))
                attempts.not_before = now + seconds * MICROSECONDS_PER_SECOND

    def succeeded(self, purpose: str, subject: str, address: str) -> None:
        """The attempt was right: its subject's count begins anew; one is taken from its address."""
        network, subject = network_of(address), subject.strip().lower()[:320]
        for key in ((purpose, subject, network), (purpose, subject, "")):
            self._known.pop(key, None)
        of_address = self._known.get((purpose, "", network))
        if of_address is not None:
            of_address.count = max(0, of_address.count - 1)
            of_address.not_before = 0

    def _of(self, key: tuple[str, str, str], now: int) -> _Attempts:
        attempts = self._known.get(key)
        if attempts is None or now - attempts.last_at > _FORGOTTEN_AFTER:
            attempts = self._known[key] = _Attempts()
        self._known.move_to_end(key)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return attempts


def network_of(address: str) -> str:
    """What one subscriber has: an address of IPv4, or the /64 of one of IPv6."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if parsed.version == 6:
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
