"""Chunk messages by hand: what protobuf would do to a megabyte is one copy too many, so both sides skip it.

A `PutObjectRequest` or `GetObjectResponse` that carries nothing but a chunk is one tag, one length and the bytes.
Anything else on the wire is left to protobuf. Messages of protobuf may be put together by putting their bytes
together, so a header message followed by a frame is the message with both.
"""

__all__ = ["CHUNK_BYTES", "GET_TAG", "PUT_TAG", "chunk_of", "frame"]

CHUNK_BYTES = 1 << 20
"""The size of the chunks that are sent."""
PUT_TAG = 7 << 3 | 2
"""`PutObjectRequest.chunk`: field 7, length-delimited."""
GET_TAG = 5 << 3 | 2
"""`GetObjectResponse.chunk`: field 5, length-delimited."""


def frame(tag: int, chunk: bytes | memoryview, header: bytes = b"") -> bytes:
    """The message that carries `chunk`, after the bytes of a message with the other fields; makes the one copy."""
    prefix = bytearray((tag,))
    length = len(chunk)
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return b"".join((header, prefix, chunk))


def chunk_of(tag: int, raw: bytes) -> bytes | None:
    """The chunk of a message that carries only that; None for any other message, which protobuf has to read."""
    if not raw or raw[0] != tag:
        return None
    length = shift = 0
    for at in range(1, min(len(raw), 6)):
        length |= (raw[at] & 0x7F) << shift
        if raw[at] < 0x80:
            return raw[at + 1 :] if at + 1 + length == len(raw) else None
        shift += 7
    return None
