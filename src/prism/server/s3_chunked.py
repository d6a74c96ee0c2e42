"""The `aws-chunked` encoding: pieces with their lengths, each perhaps signed, and trailing headers at the end.

`Unchunker` takes the encoded body in blocks of any size and gives the content back, holding nothing but an unfinished
line. Content is handed on before the signature of its piece is seen; a piece that does not match ends the body with an
error, and whoever stores it keeps nothing of a body that did not end well.
(docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html, sigv4-streaming-trailers.html)
"""

import hashlib
import re
from collections.abc import Callable

from ..blob.sigv4 import Chain
from ..errors import ErrorCode, PrismError
from .s3_exchange import invalid

__all__ = ["Unchunker"]

_HEAD = re.compile(rb"([0-9a-fA-F]{1,12})(?:;chunk-signature=([0-9a-f]{64}))?[ \t]*\Z")
_TRAILER = re.compile(rb"([A-Za-z0-9-]{1,128}):[ \t]*([\x21-\x7e]{1,512})[ \t]*\Z")
_MAX_LINE_BYTES = 1024
_MAX_TRAILERS = 16


class Unchunker:
    """One body. `chain` verifies the signatures of signed pieces; None: pieces carry none."""

    def __init__(self, chain: Chain | None, *, signed_trailer: bool = False) -> None:
        self._chain = chain
        self._signed_trailer = signed_trailer
        self._step: Callable[[bytes], None] = self._head
        self._line = b""
        self._left = 0
        self._signature = ""
        self._sha256 = hashlib.sha256()
        self._ended = False
        self.trailers: dict[str, str] = {}
        """Complete once the body has ended."""

    def feed(self, block: bytes) -> list[memoryview]:
        """The content of the next block. INVALID_ARGUMENT, SIGNATURE_MISMATCH."""
        found: list[memoryview] = []
        view, at = memoryview(block), 0
        while at < len(block):
            if self._left:
                piece = view[at : at + self._left]
                if self._chain is not None:
                    self._sha256.update(piece)
                self._left -= len(piece)
                at += len(piece)
                found.append(piece)
                continue
            end = block.find(b"\n", at)
            if (len(block) if end < 0 else end) - at + len(self._line) > _MAX_LINE_BYTES:
                raise _broken("a line in it is too long")
            self._line += block[at:] if end < 0 else block[at:end]
            at = len(block) if end < 0 else end + 1
            if end >= 0:
                line, self._line = self._line.removesuffix(b"\r"), b""
                self._step(line)
        return found

    def end(self) -> None:
        """SIZE_MISMATCH unless the body came to its proper end."""
        if not self._ended:
            raise PrismError(ErrorCode.SIZE_MISMATCH, "the body ended before its last piece")

    def _head(self, line: bytes) -> None:
        found = _HEAD.match(line)
        if found is None or (found[2] is None) != (self._chain is None):
            raise _broken("a piece does not begin with its length and, where the body is signed, its signature")
        self._left = int(found[1], 16)
        self._signature = (found[2] or b"").decode()
        if self._left:
            self._step = self._after_piece
            return
        self._verify_piece()
        self._step = self._trailer

    def _after_piece(self, line: bytes) -> None:
        if line:
            raise _broken("a piece is longer than it says")
        self._verify_piece()
        self._step = self._head

    def _verify_piece(self) -> None:
        if self._chain is not None:
            self._chain.chunk(self._sha256.hexdigest(), self._signature)
            self._sha256 = hashlib.sha256()

    def _trailer(self, line: bytes) -> None:
        if not line:
            # Before the signature of the trailers some clients send an empty line.
            self._ended = not self._signed_trailer
            self._step = self._after_end if self._ended else self._trailer
            return
        found = _TRAILER.match(line)
        if found is None or len(self.trailers) >= _MAX_TRAILERS:
            raise _malformed_trailer("a trailing header is malformed")
        name, value = found[1].decode().lower(), found[2].decode()
        if name == "x-amz-trailer-signature" and self._chain is not None:
            self._chain.trailer(self.trailers.items(), value)
            self._signed_trailer = False
        elif name in self.trailers:
            raise _malformed_trailer(f"the trailing header {name} comes twice")
        else:
            self.trailers[name] = value

    def _after_end(self, _line: bytes) -> None:
        raise _broken("something follows its end")


def _broken(what: str) -> PrismError:
    return invalid("InvalidRequest", f"the aws-chunked body is malformed: {what}")


def _malformed_trailer(what: str) -> PrismError:
    return invalid("MalformedTrailerError", what)
