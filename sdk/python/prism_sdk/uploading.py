"""A file goes up: declared to Prism, sent to the store by plain HTTP in one piece or in parts, completed, compared.

The file is read by position, a piece at a time, and hashed as it is sent; at most `parallel` parts are in flight. What
has arrived is noted in a small file, so the next call goes on after a kill; a source of another size or time begins
anew. A part that fails is sent again after a pause, and by a new URL when the store refused the old one.
"""

import contextlib
import hashlib
import os
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import google_crc32c

from . import wire_uploads as wire
from .channel import Channel
from .checksums import crc32c_of_parts, crc32c_text
from .errors import (
    Aborted,
    AlreadyExists,
    ChecksumMismatch,
    DataLoss,
    FileChanged,
    InvalidArgument,
    NotFound,
    ObjectNotFound,
    PreconditionFailed,
    PrismError,
    QuotaExceeded,
    StoreUnreachable,
    Unimplemented,
)
from .files import Progress, content_type_of
from .lanes import Lanes, Moved
from .resuming import StateFile
from .retrying import Attempts
from .store_http import URLRefused
from .values import PartURL, PutResult
from .wire import Repeat

__all__ = ["FileUpload", "Resume", "attempts_of"]

AnyPath = str | os.PathLike[str]
Resume = bool | AnyPath | None
_SINGLE_BYTES = 8 << 20
_PIECE_BYTES = 1 << 20
_FRESH_URLS = 3
_GIVING_UP_SECONDS = 2.0
_HOPELESS = (
    AlreadyExists,
    Aborted,
    DataLoss,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    Unimplemented,
)
"""After these the same upload cannot end well, so nothing of it is kept."""


class FileUpload:
    """One upload of one file; `run` it once, `stop` it from anywhere."""

    def __init__(
        self,
        channel: Channel,
        wanted: wire.Wanted,
        source: AnyPath | IO[bytes],
        *,
        part_size_bytes: int | None,
        parallel: int,
        progress: Progress | None,
        resume: Resume,
    ) -> None:
        if part_size_bytes is not None and part_size_bytes < 1:
            raise InvalidArgument("part_size_bytes is 1 or more")
        self._channel = channel
        self._wanted = wanted
        self._source = source
        self._part_bytes = part_size_bytes
        self._progress = progress
        self._resume = resume
        self._lanes = Lanes(parallel)

    def stop(self) -> None:
        """End it soon; what has arrived stays for the next call, if that may resume."""
        self._lanes.stop()

    def run(self) -> PutResult:
        """The object, when it is durable and is what was read."""
        with _opened(self._source) as file:
            content_type = self._wanted.content_type or content_type_of(file.name)
            sending = _Sending(
                self._channel,
                self._lanes,
                file,
                replace(self._wanted, content_type=content_type, size_bytes=file.size_bytes),
                Moved(file.size_bytes, self._progress),
            )
            if file.size_bytes <= (self._part_bytes or _SINGLE_BYTES):
                return _at_once(sending)
            state = _state_of(self._resume, file, self._wanted)
            return _InParts(sending, state, self._part_bytes or 0, required=_is_path(self._resume)).run()


def attempts_of(channel: Channel) -> Attempts:
    """Of one part: patient with a store that was there before, brief with one that never answered."""
    most, longest = (10, 5.0) if channel.store.reached else (4, 1.0)
    return Attempts(Repeat.FREELY, channel.timeouts.transfer_seconds, most=most, longest_pause_seconds=longest)


class _File:
    """A regular file, read by position, by several threads at once."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.name = name
        self.path = Path(name) if name else None
        self.size_bytes, self.modified_ns = self._facts()

    def pieces(self, start: int, size_bytes: int) -> Iterator[bytes]:
        """These bytes. FileChanged when there are fewer."""
        end = start + size_bytes
        while start < end:
            piece = os.pread(self._file.fileno(), min(_PIECE_BYTES, end - start), start)
            if not piece:
                raise FileChanged("the file became shorter while it was uploaded")
            start += len(piece)
            yield piece

    def check_unchanged(self) -> None:
        """FileChanged if it has another size or time than at the beginning."""
        if self._facts() != (self.size_bytes, self.modified_ns):
            raise FileChanged("the file changed while it was uploaded")

    def _facts(self) -> tuple[int, int]:
        facts = os.fstat(self._file.fileno())
        return facts.st_size, facts.st_mtime_ns


@contextlib.contextmanager
def _opened(source: Any) -> Iterator[_File]:
    """TypeError for a file object without a file; INVALID_ARGUMENT for what is no regular file."""
    if isinstance(source, str | os.PathLike):
        with open(source, "rb", buffering=0) as file:  # noqa: PTH123 a path of any kind
            yield _regular(file, os.fspath(source))
        return
    try:
        number = source.fileno()
    except (AttributeError, OSError):
        raise TypeError("path_or_file is a path or an open file; put_object takes any other data") from None
    name = getattr(source, "name", "")
    with os.fdopen(os.dup(number), "rb", buffering=0) as file:  # the caller may close his own
        yield _regular(file, name if isinstance(name, str) else "")


def _regular(file: IO[bytes], name: str) -> _File:
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        raise InvalidArgument("only a regular file can be read in parts; put_object takes a pipe or a device")
    return _File(file, name)


@dataclass(frozen=True, slots=True)
class _Sending:
    """What both ways use."""

    channel: Channel
    lanes: Lanes
    file: _File
    wanted: wire.Wanted
    moved: Moved

    def send(self, signed: Any, start: int, size_bytes: int) -> int:
        """One attempt to send a stretch of the file; its CRC-32C. What failed counts as not moved."""
        crc = sent = 0

        def pieces() -> Iterator[bytes]:
            nonlocal crc, sent
            for piece in self.file.pieces(start, size_bytes):
                self.lanes.check()
                crc = google_crc32c.extend(crc, piece)
                yield piece
                sent += len(piece)
                self.moved.add(len(piece))

        try:
            self.channel.store.put(signed.url, signed.headers, size_bytes, pieces())
        except BaseException:
            self.moved.add(-sent)
            raise
        return crc

    def crc(self, start: int, size_bytes: int) -> int:
        """Of a stretch of the file."""
        crc = 0
        for piece in self.file.pieces(start, size_bytes):
            self.lanes.check()
            crc = google_crc32c.extend(crc, piece)
        return crc

    def completed(self, upload_id: str, crc: int | None = None) -> PutResult:
        """The answer, which must be about the bytes that were read. DATA_LOSS if it is not."""
        checksum = None if crc is None else crc32c_text(crc)
        result = self.channel.run(wire.complete(upload_id, checksum_crc32c=checksum))
        expected = checksum or self.wanted.checksum_crc32c
        if result.size_bytes != self.file.size_bytes or result.checksum_crc32c not in {"", expected}:
            raise DataLoss("the server stored other bytes than were sent")
        return result

    def give_up(self, upload_id: str) -> None:
        """Best effort: what stays runs out by itself."""
        with contextlib.suppress(PrismError):
            self.channel.run(wire.abort(upload_id), _GIVING_UP_SECONDS)


def _at_once(sending: _Sending) -> PutResult:
    """The whole file to one URL; a new one when the store refuses it."""
    size = sending.file.size_bytes
    wanted = replace(sending.wanted, checksum_crc32c=crc32c_text(sending.crc(0, size)))
    sending = replace(sending, wanted=wanted)
    for urls_left in range(_FRESH_URLS, 0, -1):
        upload_id = ""
        try:
            ticket = sending.channel.run(wire.create(wanted))
            upload_id = ticket.upload_id
            _send_whole(sending, ticket, size)
            return sending.completed(upload_id)
        except URLRefused:
            sending.give_up(upload_id)
            if urls_left == 1:
                raise
        except BaseException as error:
            if upload_id:
                sending.give_up(upload_id)
            if isinstance(error, ChecksumMismatch):
                sending.file.check_unchanged()  # between hashing and sending
            raise
    raise AssertionError("the last URL returns or raises")


def _send_whole(sending: _Sending, ticket: Any, size: int) -> None:
    attempts = attempts_of(sending.channel)
    while True:
        try:
            sending.send(ticket, 0, size)
            return
        except PreconditionFailed:
            return  # the URL was used: by an attempt whose answer was lost. Completing tells.
        except PrismError as error:
            sending.lanes.pause(attempts.pause_seconds(error))


def _state_of(resume: Resume, file: _File, wanted: wire.Wanted) -> StateFile | None:
    """Where it is noted what has arrived: where the caller says, or beside the source."""
    if _is_path(resume):
        return StateFile(Path(resume))  # type: ignore[arg-type]  # a path, then
    if resume is False or file.path is None:
        return None
    name = f"{wanted.namespace}\n{wanted.bucket}\n{wanted.key}".encode()
    digest = hashlib.blake2b(name, digest_size=6).hexdigest()
    return StateFile(file.path.with_name(f".{file.path.name[:100]}.{digest}.prism-upload"))


def _is_path(resume: Resume) -> bool:
    return not (resume is None or isinstance(resume, bool))


@dataclass(slots=True)
class _Session:
    """An upload in parts: which have arrived, and their CRC-32Cs as far as they are known."""

    upload_id: str
    part_bytes: int
    arrived: set[int] = field(default_factory=set)
    crcs: dict[int, int] = field(default_factory=dict)
    resumed: bool = False


class _InParts:
    """The file to one URL per part."""

    def __init__(self, sending: _Sending, state: StateFile | None, wished_bytes: int, *, required: bool) -> None:
        self._sending = sending
        self._state = state
        self._wished_bytes = wished_bytes
        self._required = required
        request = sending.wanted.encoded(in_parts=True, part_size_bytes=wished_bytes)
        file = sending.file
        self._of: Mapping[str, Any] = {
            "format": 1,
            "request": hashlib.blake2b(request, digest_size=16).hexdigest(),
            "size_bytes": file.size_bytes,
            "modified_ns": file.modified_ns,
        }

    def run(self) -> PutResult:
        session = self._resumed() or self._begun()
        try:
            return self._finished(session)
        except ObjectNotFound:
            # Over: completed by another process that sends the same, or given up while nobody was here.
            found = self._status(session.upload_id)
            if found == "completed":
                return self._finished(session)
            if not session.resumed:
                self._forget()
                raise
        return self._finished(self._begun())

    def _finished(self, session: _Session) -> PutResult:
        try:
            result = self._sent(session)
        except _HOPELESS as error:
            if not isinstance(error, ObjectNotFound):
                self._sending.give_up(session.upload_id)
                self._forget()
            raise
        except BaseException as error:
            # Nobody can go on without a state file, and nobody who cannot reach the store at all would.
            if self._state is None or (isinstance(error, StoreUnreachable) and not session.arrived):
                self._sending.give_up(session.upload_id)
                self._forget()
            else:
                self._state.close()
            raise
        self._forget()
        return result

    def _sent(self, session: _Session) -> PutResult:
        sending = replace(self._sending, lanes=self._sending.lanes.fresh())
        lanes = sending.lanes
        urls = _PartURLs(sending.channel, session, self._count(session), 2 * lanes.parallel)
        missing = [number for number in range(1, self._count(session) + 1) if number not in session.arrived]
        lanes.run(missing, lambda number: self._send_part(sending, session, urls, number))
        unhashed = [number for number in sorted(session.arrived) if number not in session.crcs]
        lanes.run(unhashed, lambda number: self._hash_part(sending, session, number))
        parts = [(session.crcs[number], self._stretch(session, number)[1]) for number in sorted(session.crcs)]
        sending.file.check_unchanged()
        return sending.completed(session.upload_id, crc32c_of_parts(parts))

    def _send_part(self, sending: _Sending, session: _Session, urls: "_PartURLs", number: int) -> None:
        start, size = self._stretch(session, number)
        attempts, refused = attempts_of(sending.channel), 0
        while True:
            try:
                crc = sending.send(urls.get(number), start, size)
                break
            except URLRefused:
                refused += 1
                if refused == _FRESH_URLS:
                    raise
                urls.forget(number)
            except PrismError as error:
                sending.lanes.pause(attempts.pause_seconds(error))
        session.crcs[number] = crc
        session.arrived.add(number)
        if self._state is not None:
            self._state.note({"part": number, "crc32c": crc})

    def _hash_part(self, sending: _Sending, session: _Session, number: int) -> None:
        session.crcs[number] = sending.crc(*self._stretch(session, number))

    def _begun(self) -> _Session:
        self._sending.moved.begin_again()
        ticket = self._sending.channel.run(
            wire.create(self._sending.wanted, in_parts=True, part_size_bytes=self._wished_bytes)
        )
        session = _Session(ticket.upload_id, ticket.part_size_bytes)
        self._note(session)
        return session

    def _resumed(self) -> _Session | None:
        """The upload that an earlier call left, as the store has it now."""
        loaded = self._state.load(self._of) if self._state is not None else None
        if loaded is None:
            return None
        first, noted = loaded
        session = _Session(str(first["upload_id"]), int(first["part_bytes"]), resumed=True)
        try:
            found = self._sending.channel.run(wire.status(session.upload_id))
        except (NotFound, InvalidArgument):
            return None
        known = {line["part"]: line["crc32c"] for line in noted}
        if found.state == "completed":
            session.arrived = set(range(1, self._count(session) + 1))
        elif found.state == "open" and found.part_size_bytes == session.part_bytes:
            # Only what the store acknowledged: some list a part whose sender died in the middle of it.
            session.arrived = {part.number for part in found.parts if part.number in known}
        else:
            return None
        session.crcs = {number: known[number] for number in session.arrived if number in known}
        self._sending.moved.add(sum(self._stretch(session, number)[1] for number in session.arrived))
        self._note(session)
        return session

    def _note(self, session: _Session) -> None:
        if self._state is None:
            return
        first = {"upload_id": session.upload_id, "part_bytes": session.part_bytes}
        noted = [{"part": number, "crc32c": crc} for number, crc in session.crcs.items()]
        try:
            self._state.begin(self._of, first, noted)
        except OSError:
            self._state = None  # beside the source nothing can be written, so it cannot be resumed
            if self._required:
                self._sending.give_up(session.upload_id)
                raise

    def _forget(self) -> None:
        if self._state is not None:
            self._state.remove()

    def _status(self, upload_id: str) -> str:
        try:
            return self._sending.channel.run(wire.status(upload_id)).state
        except NotFound:
            return "gone"

    def _count(self, session: _Session) -> int:
        return -(-self._sending.file.size_bytes // session.part_bytes)

    def _stretch(self, session: _Session, number: int) -> tuple[int, int]:
        start = (number - 1) * session.part_bytes
        return start, min(session.part_bytes, self._sending.file.size_bytes - start)


class _PartURLs:
    """URLs of parts that are still to be sent, asked for a few at a time."""

    def __init__(self, channel: Channel, session: _Session, count: int, batch: int) -> None:
        self._channel = channel
        self._session = session
        self._count = count
        self._batch = batch
        self._lock = threading.Lock()
        self._signed: OrderedDict[int, PartURL] = OrderedDict()

    def get(self, number: int) -> PartURL:
        """One for this part."""
        with self._lock:
            if number not in self._signed:
                self._sign(number)
            return self._signed[number]

    def forget(self, number: int) -> None:
        """The store refused this one, and so it will the others of its age."""
        with self._lock:
            if number in self._signed:
                self._signed.clear()

    def _sign(self, number: int) -> None:
        arrived = self._session.arrived
        wanted = [one for one in range(number, self._count + 1) if one not in arrived and one not in self._signed]
        for part in self._channel.run(wire.sign_parts(self._session.upload_id, wanted[: self._batch])):
            self._signed[part.number] = part
        while len(self._signed) > 4 * self._batch:
            self._signed.popitem(last=False)
