"""The log: one JSON line per event on standard error, with the request's id, and without any secret.

`configure` is called once by the program. Rooms take `structlog.get_logger("prism.room")`; servers bind the request
with `structlog.contextvars.bound_contextvars(request_id=…)`. What uvicorn, grpc, asyncio and others log through the
standard library comes out the same way. Every value, exception texts too, passes `redact`; size and nesting are
bounded; a line that cannot be written is dropped, because logging fails no request.
"""

import contextlib
import itertools
import logging
import os
import sys
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from datetime import datetime
from typing import Any

import msgspec
import structlog

from .redaction import HIDDEN, is_secret_name, redact

__all__ = ["configure"]

_MAX_TEXT = 8_192
_MAX_LINE = 65_536
_MAX_ITEMS = 64
_MAX_DEPTH = 5
_MAX_FRAMES = 30
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Access logs repeat the audit record, and would carry query strings; clouds' libraries tell URLs and headers on debug.
_QUIET = ("uvicorn.access", "h11", "httpcore", "httpx", "hpack", "urllib3", "google", "botocore", "azure")
_encode = msgspec.json.Encoder().encode
Event = MutableMapping[str, Any]


def configure(level: str, now: Callable[[], datetime], descriptor: int = 2) -> None:
    """Send everything of `level` and above, of structlog and of the standard library, to a file descriptor."""
    sink = _Sink(descriptor)
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, _Render(now)],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=sink.named,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge(_Render(now), sink)]
    root.setLevel(_LEVELS[level])
    for name in list(root.manager.loggerDict):
        if name.split(".")[0] in {"uvicorn", "grpc", "asyncio", "concurrent"}:
            logging.getLogger(name).handlers.clear()
            logging.getLogger(name).propagate = True
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)


class _Sink:
    """Writes whole lines to a descriptor, unbuffered: nothing is lost in a crash, several processes may share it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def named(self, *names: Any) -> "_Logger":
        return _Logger(self, str(names[0]) if names else "prism")

    def write(self, line: bytes) -> None:
        # Nobody could be told that the log is gone, and no request may fail for it.
        with contextlib.suppress(OSError):
            os.write(self._descriptor, line)


class _Logger:
    """What structlog hands rendered lines to; knows its name."""

    def __init__(self, sink: _Sink, name: str) -> None:
        self.name = name
        self.msg = self.debug = self.info = self.warning = self.error = self.critical = self._write
        self._sink = sink

    def _write(self, line: bytes) -> None:
        self._sink.write(line)


class _Render:
    """The last processor: an event as a line of JSON with the time in front, everything in it made harmless."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now

    def __call__(self, logger: Any, method: str, event: Event) -> bytes:
        harmless, error = _Harmless(), event.pop("exc_info", None)
        line: dict[str, Any] = {
            "time": self._now(),
            "level": method,
            "logger": getattr(logger, "name", "prism"),
            "event": harmless.text(event.pop("event", "")),
        }
        for name, value in event.items():
            line[name] = harmless.field(name, value)
        if error:
            line["exception"] = harmless.traceback(error)
        try:
            return _encode(line) + b"\n"
        except UnicodeEncodeError:
            return _encode({name: _escaped(value) for name, value in line.items()}) + b"\n"


class _Bridge(logging.Handler):
    """Takes what is logged through the standard library."""

    def __init__(self, render: _Render, sink: _Sink) -> None:
        super().__init__()
        self._render = render
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        event: Event = dict(structlog.contextvars.get_contextvars())
        event["event"] = _said(record.getMessage)
        event["exc_info"] = record.exc_info
        self._sink.write(self._render(record, record.levelname.lower(), event))


class _Harmless:
    """Turns the values of one line into plain JSON with secrets hidden; all of them share one budget of characters."""

    def __init__(self) -> None:
        self._left = _MAX_LINE

    def plain(self, value: Any, depth: int = 0) -> Any:
        self._left -= 1
        if value is None or isinstance(value, bool | float):
            return value
        if isinstance(value, int):
            return value if -(2**63) <= value < 2**63 else "a very large number"
        if depth < _MAX_DEPTH and self._left > 0:
            if isinstance(value, Mapping):
                return {self.text(str(name)): self.field(str(name), inner, depth + 1) for name, inner in _some(value)}
            if isinstance(value, list | tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
                # Perhaps a header as a pair of its name and its value.
                name = self.text(value[0])
                return [name, self.field(name, value[1], depth + 1)]
            if isinstance(value, list | tuple | set | frozenset):
                return [self.plain(inner, depth + 1) for inner in _some(value)]
        return self.text(value)

    def field(self, name: str, value: Any, depth: int = 0) -> Any:
        """A value with a name, which may say that it is a secret."""
        return HIDDEN if is_secret_name(name) else self.plain(value, depth)

    def text(self, value: Any) -> str:
        size = max(0, min(_MAX_TEXT, self._left))
        if isinstance(value, bytes | bytearray):
            value = value[:size].decode("utf-8", "backslashreplace")
        text = redact((value if isinstance(value, str) else _said(value.__str__))[:size])
        self._left -= len(text)
        return text

    def traceback(self, error: Any) -> str:
        """What `exc_info` holds: an exception, a triple, or True for the current one. Its end matters most, so it is
        cut in front, after the secrets are out: a value whose name is cut off could not be told."""
        if isinstance(error, tuple):
            error = error[1]
        if not isinstance(error, BaseException):
            error = sys.exc_info()[1]
        if error is None:
            return ""
        lines = traceback.format_exception(error, limit=-_MAX_FRAMES)
        return redact("".join(lines)[:_MAX_LINE])[-_MAX_TEXT:]


def _some(values: Any) -> Any:
    return itertools.islice(values.items() if isinstance(values, Mapping) else values, _MAX_ITEMS)


def _said(say: Callable[[], str]) -> str:
    try:
        return say()
    except Exception as exc:  # noqa: BLE001 - a value that cannot say itself must not fail the line it stands in
        return f"({type(exc).__name__} while formatting)"


def _escaped(value: Any) -> Any:
    """Text that is no Unicode, written out."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_escaped(name): _escaped(inner) for name, inner in value.items()}
    return [_escaped(inner) for inner in value] if isinstance(value, list) else value
