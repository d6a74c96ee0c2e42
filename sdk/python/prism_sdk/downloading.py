"""An object comes down: signed URLs of the store, ranges in parallel, into a file that appears whole and verified.

All ranges are of one version: the URL is signed between two looks that must agree, every answer must have the same etag
and size, and the CRC-32C of the whole is compared in the end. When the object changes meanwhile, all begins anew. Where
the store cannot be reached, or a URL is not to be had, the ranges come through Prism, with a warning in the log.
"""

import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

from . import wire
from .channel import Channel
from .checksums import crc32c_of_parts, crc32c_text
from .downloads import Download
from .errors import (
    Aborted,
    DataLoss,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    PrismError,
    RangeError,
    StoreUnreachable,
    Unavailable,
    Unimplemented,
)
from .files import AnyPath, Progress
from .landing import Landing, Range, landing_in, target_of
from .lanes import Lanes, Moved
from .store_http import Opened, URLRefused
from .transfers import ObjectReader
from .uploading import attempts_of
from .values import ObjectInfo, PresignedURL

__all__ = ["FileDownload"]

_RANGE_BYTES = 8 << 20
_MOST_RANGES = 1000
_BEGINNINGS = 4
_FRESH_URLS = 3
_MEBIBYTE = 1 << 20
_log = logging.getLogger("prism_sdk")


class _Changed(Exception):
    """The object is another one by now."""


class FileDownload:
    """One download to one file; `run` it once, `stop` it from anywhere."""

    def __init__(
        self,
        channel: Channel,
        name: tuple[str, str, str],
        path: AnyPath,
        *,
        parallel: int,
        progress: Progress | None,
        resume: bool,
    ) -> None:
        self._channel = channel
        self._name = name
        self._path = Path(path)
        self._progress = progress
        self._resume = resume
        self._lanes = Lanes(parallel)

    def stop(self) -> None:
        """End it soon; what is there stays for the next call, if that may resume."""
        self._lanes.stop()

    def run(self) -> ObjectInfo:
        """What is known of the object whose bytes are in the file now."""
        if self._path.exists() and not self._path.is_file() and not self._path.is_dir():
            return self._streamed()
        target = target_of(self._path)
        for _ in range(_BEGINNINGS):
            info = self._channel.run(wire.head(*self._name))
            try:
                return self._fetched(info, target)
            except _Changed:
                continue
        raise Aborted("the object was overwritten again and again while it was read")

    def _fetched(self, info: ObjectInfo, target: Path) -> ObjectInfo:
        with landing_in(target, "\n".join(self._name), resume=self._resume) as landing:
            try:
                fetching = _Fetching(self._channel, self._name, info, landing, self._lanes.fresh())
                fetching.run(Moved(info.size_bytes, self._progress))
                landing.finish()
                return info
            except (_Changed, OSError, DataLoss, ObjectNotFound):
                landing.discard()
                raise
            except BaseException:
                if not landing.keep():
                    landing.discard()
                raise

    def _streamed(self) -> ObjectInfo:
        """To a device or a pipe: in order, as it comes."""
        download = Download(*self._name, None, None, None)
        timeout = self._channel.timeouts.transfer_seconds
        with ObjectReader(self._channel, download, timeout) as opened, self._path.open("wb") as file:
            for chunk in opened.stream():
                self._lanes.check()
                file.write(chunk)
                if self._progress is not None:
                    self._progress(opened.received_bytes, opened.size_bytes)
            return opened.info


class _Fetching:
    """All ranges of one version of the object."""

    def __init__(
        self,
        channel: Channel,
        name: tuple[str, str, str],
        info: ObjectInfo,
        landing: Landing,
        lanes: Lanes,
    ) -> None:
        self._channel = channel
        self._name = name
        self._info = info
        self._landing = landing
        self._lanes = lanes
        self._ranges = _ranges(info.size_bytes)
        self._urls = _URLs(channel, name, info)
        self._lock = threading.Lock()
        self._store_etag: str | None = None
        self._through_prism = False

    def run(self, moved: Moved) -> None:
        """Returns when all is there and right. DATA_LOSS when it is not, though the object is still the same."""
        info, landing = self._info, self._landing
        of = {"format": 1, "etag": info.etag, "version_id": info.version_id, "size_bytes": info.size_bytes}
        landing.begin(of, self._ranges, info.size_bytes)
        moved.add(sum(_size(self._ranges[number]) for number in landing.finished))
        missing = [number for number in range(len(self._ranges)) if number not in landing.finished]
        self._lanes.run(missing, lambda number: self._fetch(number, moved))
        parts = [(landing.finished[number], _size(one)) for number, one in enumerate(self._ranges)]
        if info.checksum_crc32c not in {"", crc32c_text(crc32c_of_parts(parts))}:
            self._urls.check_current()
            raise DataLoss("the bytes that arrived are not the ones that were written")

    def _fetch(self, number: int, moved: Moved) -> None:
        start, end = self._ranges[number]
        offset, crc, refused = start, 0, 0
        attempts = attempts_of(self._channel)
        while offset <= end:
            url = None
            try:
                url = None if self._through_prism else self._urls.get()
                with self._opened(url, offset, end) as pieces:
                    for piece in pieces:
                        self._lanes.check()
                        if len(piece) > end + 1 - offset:
                            raise DataLoss("more bytes arrived than were asked for")
                        self._landing.write(offset, piece)
                        crc, offset = google_crc32c.extend(crc, piece), offset + len(piece)
                        moved.add(len(piece))
                        attempts.moved()
                if offset <= end:
                    raise Unavailable("the connection ended before the bytes did")
            except (URLRefused, ObjectNotFound) as error:
                refused += 1
                if url is None or (refused == _FRESH_URLS and not self._leave_the_store(error)):
                    raise
                self._urls.refresh(url)
            except RangeError:
                raise _Changed from None
            except PrismError as error:
                self._lanes.pause(0 if self._leave_the_store(error) else attempts.pause_seconds(error))
        self._landing.note(number, crc)

    @contextlib.contextmanager
    def _opened(self, url: PresignedURL | None, start: int, end: int) -> Iterator[Iterator[bytes]]:
        if url is None:
            with self._relayed(start, end) as pieces:
                yield pieces
            return
        with self._channel.store.get(url.url, url.headers, start, end) as answer:
            self._check_same(answer)
            yield answer.pieces

    @contextlib.contextmanager
    def _relayed(self, start: int, end: int) -> Iterator[Iterator[bytes]]:
        download = Download(*self._name, start, end, self._info.etag)
        try:
            with ObjectReader(self._channel, download, self._channel.timeouts.transfer_seconds) as opened:
                yield opened.stream()
        except PreconditionFailed:
            raise _Changed from None

    def _check_same(self, answer: Opened) -> None:
        with self._lock:
            self._store_etag = self._store_etag or answer.etag
            if answer.etag not in {None, self._store_etag} or answer.total_bytes not in {None, self._info.size_bytes}:
                raise _Changed

    def _leave_the_store(self, error: PrismError) -> bool:
        """Whether from here on the bytes come through Prism: URLs are not to be had, lead nowhere, or are refused."""
        nowhere = isinstance(error, StoreUnreachable) and not self._channel.store.reached
        if not nowhere and not isinstance(error, Unimplemented | PermissionDenied):
            return False
        with self._lock:
            if not self._through_prism:
                self._through_prism = True
                _log.warning("%s: reading through Prism instead of straight from the store", error.message)
        return True


class _URLs:
    """The signed URL that all ranges are read by, replaced when the store refuses it."""

    def __init__(self, channel: Channel, name: tuple[str, str, str], info: ObjectInfo) -> None:
        self._channel = channel
        self._name = name
        self._info = info
        self._lock = threading.Lock()
        self._signed: PresignedURL | None = None

    def get(self) -> PresignedURL:
        """A URL of this very version."""
        with self._lock:
            if self._signed is None:
                signed = self._channel.run(wire.presign(*self._name, "GET", 3600, None))
                self.check_current()
                self._signed = signed
            return self._signed

    def refresh(self, used: PresignedURL) -> None:
        """The store refused it."""
        with self._lock:
            if self._signed is used:
                self._signed = None

    def check_current(self) -> None:
        """_Changed if the object is another by now."""
        now = self._channel.run(wire.head(*self._name))
        if _identity(now) != _identity(self._info):
            raise _Changed


def _identity(info: ObjectInfo) -> tuple[str, str, int, str]:
    return info.etag, info.version_id, info.size_bytes, info.checksum_crc32c


def _ranges(size_bytes: int) -> list[Range]:
    """First and last byte of each: 8 MiB, and more where that would be too many."""
    step = max(_RANGE_BYTES, -(-size_bytes // (_MOST_RANGES * _MEBIBYTE)) * _MEBIBYTE)
    return [(start, min(start + step, size_bytes) - 1) for start in range(0, size_bytes, step)]


def _size(one: Range) -> int:
    return one[1] - one[0] + 1
