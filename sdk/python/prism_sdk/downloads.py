"""A download as a state: what it asks for next, what has arrived, and whether that is all of it and the right bytes.

When a stream breaks, the rest is asked for with the etag of what came before, so the parts are always of one object.
Nothing here waits or connects; both clients drive it.
"""

from collections.abc import Mapping
from datetime import datetime

import google_crc32c

from .checksums import crc32c_text
from .errors import DataLoss
from .frames import GET_TAG, chunk_of
from .stubs.prism.objectstore import object_store_pb2 as store
from .values import ObjectInfo
from .wire import Etags, etags, info_of

__all__ = ["Download", "OpenedObject"]


class Download:
    """The bytes of one object, or of a range of it."""

    def __init__(
        self,
        namespace: str,
        bucket: str,
        key: str,
        range_start: int | None,
        range_end: int | None,
        if_match: Etags,
    ) -> None:
        self._name = (namespace, bucket, key)
        self._start = range_start
        self._end = range_end
        self._if_match = etags(if_match)
        self._info: ObjectInfo | None = None
        self._opened = False
        self._crc = 0
        self.received_bytes = 0

    @property
    def info(self) -> ObjectInfo:
        """What the first message said."""
        if self._info is None:
            raise DataLoss("the stream has not begun")
        return self._info

    @property
    def expected_bytes(self) -> int:
        """How many bytes the range has in this object."""
        last = self.info.size_bytes - 1
        return (last if self._end is None else min(self._end, last)) - (self._start or 0) + 1

    @property
    def complete(self) -> bool:
        """All has arrived."""
        return self._info is not None and self.received_bytes >= self.expected_bytes

    def request(self) -> bytes:
        """The request for what is missing; a new stream begins with it."""
        self._opened = False
        start = self._start
        if self.received_bytes:
            start = (self._start or 0) + self.received_bytes
        request = store.GetObjectRequest(
            namespace=self._name[0],
            bucket=self._name[1],
            key=self._name[2],
            range_start=start,
            range_end=self._end,
            if_match=(self._info.etag,) if self._info else self._if_match,
        )
        encoded: bytes = request.SerializeToString()
        return encoded

    def accept(self, raw: bytes) -> bytes:
        """The chunk of the next message, perhaps empty. DATA_LOSS for a whole object with another checksum."""
        chunk = chunk_of(GET_TAG, raw) if self._opened else None
        if chunk is None:
            message = store.GetObjectResponse.FromString(raw)
            chunk = message.chunk
            if not self._opened:
                self._begin(info_of(message))
        self.received_bytes += len(chunk)
        if self.received_bytes > self.expected_bytes:
            raise DataLoss("more bytes arrived than the object has")
        self._crc = google_crc32c.extend(self._crc, chunk)
        if self.complete:
            self._verify()
        return chunk

    def finish(self) -> None:
        """The stream says that it is over. DATA_LOSS when bytes are missing."""
        if not self.complete:
            raise DataLoss("the stream ended before the object did")

    def _begin(self, info: ObjectInfo) -> None:
        if self._info is not None and info.etag != self._info.etag:
            raise DataLoss("the object changed while it was read")
        self._info = self._info or info
        self._opened = True

    def _verify(self) -> None:
        whole = self.expected_bytes == self.info.size_bytes
        if whole and self.info.checksum_crc32c and crc32c_text(self._crc) != self.info.checksum_crc32c:
            raise DataLoss("the bytes that arrived are not the ones that were written")


class OpenedObject:
    """What both clients' readers tell of the object that they read."""

    def __init__(self, download: Download) -> None:
        self._download = download

    @property
    def info(self) -> ObjectInfo:
        """All that is known of the object."""
        return self._download.info

    @property
    def content_type(self) -> str:
        """As it was put."""
        return self.info.content_type

    @property
    def size_bytes(self) -> int:
        """Of the whole object, also when a range is read."""
        return self.info.size_bytes

    @property
    def metadata(self) -> Mapping[str, str]:
        """As it was put."""
        return self.info.metadata

    @property
    def etag(self) -> str:
        """Without quotes."""
        return self.info.etag

    @property
    def last_modified(self) -> datetime:
        """When this content was put."""
        return self.info.last_modified

    @property
    def received_bytes(self) -> int:
        """How much has arrived so far."""
        return self._download.received_bytes

    @property
    def expected_bytes(self) -> int:
        """How much there is to come in all: the whole object, or the range."""
        return self._download.expected_bytes
