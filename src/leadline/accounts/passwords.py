"""Passwords: which ones are taken, and the work of hashing, bounded so that sign-ins cannot be the server's end."""

import asyncio
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from leadline.errors import InvalidRequest, Unavailable

# Scripts make users with the command line's rule; people choose by the console's.
SHORTEST_BY_COMMAND = 8
SHORTEST = 10
LONGEST = 1024
# Each hash takes 64 MiB and a core for some 50 ms.
AT_ONCE = 4
MOST_WAITING = 32
_Result = TypeVar("_Result")

# Without digits and signs at their ends. Whatever is built of one of these is tried first by whoever guesses.
_COMMON_TEXT = """
password passwort passw0rd p@ssword p@ssw0rd letmein welcome iloveyou sunshine princess football baseball dragon monkey
superman batman trustno admin administrator changeme secret leadline qwerty qwertyuiop qwertz qwertzuiop azerty
azertyuiop asdfgh asdfghjkl zxcvbn zxcvbnm yxcvbnm qazwsx qazwsxedc whatever starwars computer michael jennifer jordan
hunter master shadow login default test testtest hello freedom charlie
"""
_COMMON = frozenset(_COMMON_TEXT.split())
_ROWS = (
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
)


class PasswordsBusy(Unavailable):
    """Too many people sign in at once. Try again in a moment."""


class Passwords:
    """Hashes and checks passwords with argon2id, in threads of its own."""

    def __init__(self) -> None:
        self._hasher = PasswordHasher()
        self._threads = ThreadPoolExecutor(AT_ONCE, "passwords")
        self._running = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        return await self._work(self._hasher.hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Whether it is the password of this hash. None, for somebody who is not there, is the same work."""
        if self._nobodys is None:
            # Before the first check, whoever that one is of.
            self._nobodys = await self._work(self._hasher.hash, secrets.token_hex(16))
        return await self._work(self._matches, password[: LONGEST + 1], password_hash or self._nobodys) and (
            password_hash is not None
        )

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _matches(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    async def _work(self, work: Callable[..., _Result], *arguments: str) -> _Result:
        if self._running >= AT_ONCE + MOST_WAITING:
            raise PasswordsBusy
        self._running += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        finally:
            self._running -= 1


def refuse_password(password: str, email: str, shortest: int = SHORTEST) -> None:
    """InvalidRequest where the password is too short, too long, or among the first that anybody would try."""
    if not shortest <= len(password) <= LONGEST:
        raise InvalidRequest(f"The password must have {shortest} to {LONGEST} characters.", "password")
    if shortest >= SHORTEST and is_common(password, email):
        raise InvalidRequest(
            "This password is among the first that are guessed. Take several words that do not belong together.",
            "password",
        )


def is_common(password: str, email: str = "") -> bool:
    """Whether it is a common password, a row of keys, a repetition, or built of its owner's e-mail."""
    plain = password.lower()
    letters = re.sub(r"^[\W\d_]+|[\W\d_]+$", "", plain)
    own = {part for part in re.split(r"[@.+_-]", email.lower()) if len(part) >= 4} | {email.lower()}
    repeated = re.fullmatch(r"(.{1,6}?)\1+(?:.{0,3})", plain, re.DOTALL) is not None
    row = any(plain in one or plain in one[::-1] for one in _ROWS) or letters in _ROWS
    return letters in _COMMON or letters in own or plain in own or repeated or row or len(set(plain)) < 4
