"""Listening sockets: bound before anything else starts, so that a taken port is one clear sentence.

An address that one process serves is bound exclusively. Workers share an address (SO_REUSEPORT): their parent makes
sure that nobody else has it, settles port 0 once, and keeps it reserved while workers come and go.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator

from ..config import Endpoint
from ..errors import ErrorCode, PrismError

__all__ = ["address_of", "bound", "check_free", "reserved"]


def bound(name: str, endpoint: Endpoint, *, shared: bool = False) -> socket.socket:
    """A bound socket for `server.{name}`, not listening yet. INVALID_ARGUMENT when the address cannot be had."""
    family, place = _resolved(name, endpoint)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(place)
    except OSError as error:
        sock.close()
        raise _refused(name, endpoint, error) from error
    sock.setblocking(False)
    return sock


def check_free(name: str, endpoint: Endpoint) -> None:
    """INVALID_ARGUMENT when another program has the address; for servers that bind by themselves."""
    if endpoint.port:
        with contextlib.closing(bound(name, endpoint)) as sock:
            _listen(name, endpoint, sock)


@contextlib.contextmanager
def reserved(name: str, endpoint: Endpoint) -> Iterator[str]:
    """Keep the address for workers that share it; gives it with its port settled."""
    check_free(name, endpoint)
    with contextlib.closing(bound(name, endpoint, shared=True)) as sock:
        yield address_of(endpoint, sock.getsockname()[1])


def address_of(endpoint: Endpoint, port: int) -> str:
    """`host:port` as it was configured, with the port that was bound."""
    return f"{endpoint.address.rpartition(':')[0]}:{port}"


def _listen(name: str, endpoint: Endpoint, sock: socket.socket) -> None:
    """Two sockets may be bound to one address while neither listens, so listening is the proof."""
    try:
        sock.listen(1)
    except OSError as error:
        raise _refused(name, endpoint, error) from error


def _resolved(name: str, endpoint: Endpoint) -> tuple[int, tuple[str, int]]:
    """Family and place; a name that stands for both kinds of address means the IPv4 one."""
    host = endpoint.host or "0.0.0.0"  # noqa: S104 - an empty host is configured to mean all interfaces
    try:
        found = socket.getaddrinfo(host, endpoint.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise _refused(name, endpoint, error) from error
    family, _, _, _, place = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, (str(place[0]), int(place[1]))


def _refused(name: str, endpoint: Endpoint, error: OSError) -> PrismError:
    match error.errno:
        case errno.EADDRINUSE:
            why = "is in use by another program"
        case errno.EACCES:
            why = "is not allowed to this user"
        case errno.EADDRNOTAVAIL:
            why = "is no address of this machine"
        case number:
            why = f"cannot be bound: {error.strerror or os.strerror(number or 0)}"
    at = f"server.{name}.address"
    return PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}: {endpoint.address} {why}", context={"key": at})
