"""One connection of the synchronous client: opened when first used, shared by threads, refused in a forked child."""

import os
import threading
from typing import Any

import grpc

from .connection import OPTIONS, Connection
from .errors import PrismError
from .stalls import StallWatch

__all__ = ["Channel"]


class Channel:
    """Calls by method name, with bytes in and bytes out."""

    def __init__(self, connection: Connection, stall_seconds: float) -> None:
        self.connection = connection
        self.stalls = StallWatch(stall_seconds)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._methods: dict[str, Any] = {}
        self._process = 0
        self._closed = False

    def method(self, kind: str, name: str) -> Any:
        """A callable of kind `unary_unary`, `stream_unary` or `unary_stream`."""
        found = self._methods.get(name)
        if found is None or self._process != os.getpid() or self._closed:
            with self._lock:
                found = self._methods[name] = getattr(self._open(), kind)(name)
        return found

    def _open(self) -> grpc.Channel:
        if self._closed:
            raise PrismError("this client is closed")
        if self._channel is None:
            target, credentials = self.connection.target, self.connection.credentials
            self._process = os.getpid()
            if credentials is None:
                self._channel = grpc.insecure_channel(target, options=OPTIONS)
            else:
                self._channel = grpc.secure_channel(target, credentials, options=OPTIONS)
        elif self._process != os.getpid():
            raise PrismError("this client was used before the process forked; make a new one here")
        return self._channel

    def close(self) -> None:
        """End the connection; calls under way are cancelled."""
        with self._lock:
            self._closed = True
            if self._channel is not None and self._process == os.getpid():
                self._channel.close()
