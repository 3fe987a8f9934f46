"""Content that is kept for a feature, encrypted at rest: whoever has only the database cannot read it.

ChaCha20-Poly1305 (RFC 8439) with a random nonce before each text. `place` says where a text belongs; moved to another
place it does not open.
"""

import os
from hashlib import blake2b

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

_NONCE_BYTES = 12
# What a sealed text is longer by: its nonce and its tag.
SEAL_BYTES = _NONCE_BYTES + 16


class Sealer:
    """`secret` is the instance's own."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = ChaCha20Poly1305(blake2b(secret, digest_size=32, person=b"leadline-sealed").digest())

    def seal(self, content: bytes, place: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, content, place.encode())

    def open(self, sealed: bytes, place: str) -> bytes | None:
        """None where it was sealed with another secret, for another place, or was damaged."""
        try:
            return self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], place.encode())
        except (InvalidTag, ValueError):
            return None
