"""The texts of keys: a prefix, a public id, a secret, and a checksum over all of it, in base62."""

import secrets
import zlib

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# No text of a key is longer; what is longer need not be hashed.
LONGEST_KEY = 256


def new_key_text(prefix: str, public_id: str) -> str:
    """The text of a new secret for the key of this id."""
    body = f"{prefix}_{public_id}_{_characters(32)}"
    return body + checksum(body)


def new_public_id() -> str:
    return _characters(8)


def checksum(body: str) -> str:
    """CRC-32 of `body` as six base62 digits, so that a mistyped or cut key can be told from a wrong one."""
    rest, digits = zlib.crc32(body.encode("ascii")), ""
    for _ in range(6):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def _characters(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))
