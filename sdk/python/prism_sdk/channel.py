"""One connection of the synchronous client: opened when first used, shared by threads, refused in a forked child."""

import os
import threading
import time
from typing import Any, TypeVar

import grpc

from .connection import OPTIONS, Connection, Timeouts
from .errors import PrismError, error_of
from .retrying import Attempts
from .stalls import StallWatch
from .store_http import Store
from .wire import Call

__all__ = ["Channel"]

T = TypeVar("T")


class Channel:
    """Calls by method name, with bytes in and bytes out."""

    def __init__(self, connection: Connection, timeouts: Timeouts) -> None:
        self.connection = connection
        self.timeouts = timeouts
        self.stalls = StallWatch(timeouts.stall_seconds)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._methods: dict[str, Any] = {}
        self.store = Store(connection.ca_file, timeouts.stall_seconds)
        """Whatever signed URLs lead to."""
        self._process = 0
        self._closed = False

    def method(self, kind: str, name: str) -> Any:
        """A callable of kind `unary_unary`, `stream_unary` or `unary_stream`."""
        found = self._methods.get(name)
        if found is None or self._process != os.getpid() or self._closed:
            with self._lock:
                found = self._methods[name] = getattr(self._open(), kind)(name)
        return found

    def run(self, call: Call[T], budget_seconds: float | None = None) -> T:
        """One unary call with its repeats, within the operation's time unless another is given."""
        usual = self.timeouts.transfer_seconds if call.moves_bytes else self.timeouts.call_seconds
        attempts = Attempts(call.repeat, usual if budget_seconds is None else budget_seconds)
        while True:
            try:
                method, timeout = self.method("unary_unary", call.method), attempts.remaining_seconds()
                return call.parse(method(call.request, timeout=timeout, metadata=self.connection.metadata))
            except grpc.RpcError as error:
                time.sleep(attempts.pause_seconds(error_of(error)))

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
        self.store.close()
