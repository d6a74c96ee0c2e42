"""Where the server is and how to speak to it: endpoint, TLS, credential, channel options; shared by both clients.

The endpoint is `host:port`, `http://host:port` or `https://host[:port]`. The credential is sent as a header with each
call and is shown nowhere.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from .errors import InvalidArgument

__all__ = ["OPTIONS", "Connection", "Timeouts", "checked", "connection"]

_DEFAULT = "localhost:50051"
_MAX_MESSAGE_BYTES = 5 << 20
OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    # A connection that died without a word is noticed while a call is under way.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """`call_seconds` for an operation without object bytes, its repeats included; `transfer_seconds` for one with them,
    and for each part of a file; `stall_seconds` for the longest time in which nothing moves."""

    call_seconds: float = 30.0
    transfer_seconds: float = 3600.0
    stall_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Connection:
    """Everything that a channel and a call need."""

    target: str
    credentials: grpc.ChannelCredentials | None
    metadata: Sequence[tuple[str, str]] = field(repr=False)
    ca_file: Path | None = None
    """A private authority, trusted also for the URLs of a store."""


def checked(namespace: str, pattern: str) -> str:
    """The namespace of a client; INVALID_ARGUMENT without one, and for a pattern other than `objectstore`."""
    if not namespace:
        raise InvalidArgument("a client needs a namespace")
    if pattern != "objectstore":
        raise InvalidArgument(f"pattern {pattern!r}: this client speaks objectstore")
    return namespace


def connection(
    endpoint: str | None, api_key: str | None, tls: bool | None, ca_file: str | os.PathLike[str] | None
) -> Connection:
    """From arguments, or else `PRISM_ENDPOINT` and `PRISM_API_KEY`; TLS by `https://`, `tls=True` or a `ca_file`."""
    given = endpoint or os.environ.get("PRISM_ENDPOINT") or _DEFAULT
    scheme, _, rest = given.rpartition("://")
    if scheme not in {"", "http", "https", "grpc", "grpcs"}:
        raise InvalidArgument(f"endpoint {given!r}: write host:port, http://host:port or https://host")
    secure = scheme in {"https", "grpcs"} or bool(tls) or ca_file is not None
    if (scheme in {"http", "grpc"} and secure) or (scheme in {"https", "grpcs"} and tls is False):
        raise InvalidArgument(f"endpoint {given!r} and the tls arguments disagree")
    key = api_key if api_key is not None else os.environ.get("PRISM_API_KEY", "")
    if not key.isascii() or not key.isprintable():
        raise InvalidArgument("the API key has characters that no key has")
    return Connection(
        target=_target(given, rest, secure),
        credentials=grpc.ssl_channel_credentials(Path(ca_file).read_bytes() if ca_file else None) if secure else None,
        metadata=(("authorization", f"Bearer {key}"),) if key else (),
        ca_file=Path(ca_file) if ca_file else None,
    )


def _target(given: str, rest: str, secure: bool) -> str:
    parts = urlsplit(f"//{rest.rstrip('/')}")
    try:
        port = parts.port or (443 if secure else None)
    except ValueError:
        port = None
    if not parts.hostname or port is None or parts.path or parts.query or parts.username is not None:
        raise InvalidArgument(f"endpoint {given!r}: write host:port, http://host:port or https://host")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{port}"
