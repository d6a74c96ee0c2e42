"""Continuation tokens: where a listing goes on, sealed to the very listing that it came from.

A token carries its position and a keyed digest over position and scope, so one that was altered, or that belongs to
another namespace, bucket, prefix or kind of listing, is refused. The key is the deployment's, kept in the catalog.
"""

import base64
import binascii
import hashlib
import hmac

import msgspec

from .errors import ErrorCode, PrismError

__all__ = ["Continuations"]

_DIGEST_BYTES = 16


class Continuations:
    """Seals and opens tokens with one key."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def seal(self, scope: tuple[str, ...], position: tuple[str, ...]) -> str:
        """A token that only the same scope opens again."""
        payload = msgspec.json.encode(position)
        return base64.urlsafe_b64encode(self._digest(scope, payload) + payload).decode().rstrip("=")

    def open(self, scope: tuple[str, ...], token: str) -> tuple[str, ...]:
        """The position; INVALID_ARGUMENT for a token that is not this listing's."""
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        if base64.urlsafe_b64encode(raw).decode().rstrip("=") != token:
            raw = b""  # base64 has several spellings of one value
        digest, payload = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        if not payload or not hmac.compare_digest(digest, self._digest(scope, payload)):
            raise PrismError(
                ErrorCode.INVALID_ARGUMENT,
                "the continuation token is not one of this listing: it was altered or belongs to another "
                "namespace, bucket or prefix",
            )
        return msgspec.json.decode(payload, type=tuple[str, ...])

    def _digest(self, scope: tuple[str, ...], payload: bytes) -> bytes:
        message = msgspec.json.encode(scope) + b"\0" + payload
        return hashlib.blake2b(message, key=self._key, digest_size=_DIGEST_BYTES).digest()
