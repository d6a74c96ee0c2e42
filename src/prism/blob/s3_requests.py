"""S3 requests that obstore lacks, by botocore, in threads: one call each, failures in the port's words.

The client is made when it is first needed and repeats nothing. What the store answered is never shown, only its status
and its own name of the error.
"""

import base64
import functools
import hashlib
import threading
from typing import Any

from ..config import S3Store
from ..errors import ErrorCode, PrismError
from .obstores import answered
from .s3_credentials import Credentials
from .threads import Threads

__all__ = ["CONNECT_SECONDS", "Requests", "StoreAnswered"]

CONNECT_SECONDS = 5.0
_MOST_THREADS = 64


class StoreAnswered(Exception):
    """An error answer whose meaning depends on what was asked: the store's own name of it."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Requests:
    """The requests of one bucket. `own_meaning` are codes that come out as `StoreAnswered`."""

    def __init__(self, store: S3Store, credentials: Credentials) -> None:
        self._store = store
        self._credentials = credentials
        self._threads = Threads(min(store.max_connections, _MOST_THREADS), "prism-s3")
        self._lock = threading.Lock()
        self._client: Any = None
        self.server = ""
        """What the server last called itself, once it was asked anything."""

    async def ask(self, operation: str, own_meaning: frozenset[str] = frozenset(), /, **parameters: Any) -> Any:
        """Send one request to the bucket; its answer as botocore gives it."""
        return await self._threads.run(self._send, operation, own_meaning, parameters)

    async def read(self, body: Any, size_bytes: int) -> bytes:
        """The next bytes of an answer's body."""
        return await self._threads.run(self._read, body, size_bytes)

    async def keys(self) -> Any:
        """The keys to sign with now."""
        return self._credentials.fresh or await self._threads.run(self._credentials.current)

    async def close(self) -> None:
        """Wait for what is under way, then let the connections go."""
        await self._threads.close()
        if self._client is not None:
            self._client.close()

    def _send(self, operation: str, own_meaning: frozenset[str], parameters: dict[str, Any]) -> Any:
        try:
            answer = getattr(self._ready(), operation)(Bucket=self._store.bucket, **parameters)
        except Exception as error:  # noqa: BLE001 - told apart by class; what is unknown goes on as it is
            failure = error
        else:
            self.server = answer["ResponseMetadata"]["HTTPHeaders"].get("server", "")
            return answer
        raise self._failure(failure, own_meaning)

    def _read(self, body: Any, size_bytes: int) -> bytes:
        try:
            return bytes(body.read(size_bytes))
        except Exception as error:  # noqa: BLE001 - as above
            failure = error
        raise self._failure(failure, frozenset())

    def _failure(self, error: Exception, own_meaning: frozenset[str]) -> Exception:
        from botocore import exceptions as known

        match error:
            case known.ClientError():
                return self._answered(error.response, own_meaning)
            case known.ConnectTimeoutError() | known.ReadTimeoutError():
                return TimeoutError("the store does not answer in time")
            case known.HTTPClientError() | known.ConnectionError() | known.IncompleteReadError():
                return ConnectionError("the connection to the store failed")
            case known.BotoCoreError():
                cause = {"cause": type(error).__name__}
                return PrismError(ErrorCode.STORE_DOWN, "the store fails at the moment", context=cause)
        return error

    def _answered(self, response: Any, own_meaning: frozenset[str]) -> Exception:
        code = str(response.get("Error", {}).get("Code", ""))
        if code in own_meaning:
            return StoreAnswered(code)
        about = response.get("ResponseMetadata", {})
        wait = about.get("HTTPHeaders", {}).get("retry-after", "")
        status = int(about.get("HTTPStatusCode", 500))
        shown = "" if code.isdigit() else code
        return answered(status, shown, self._store.bucket, float(wait) if wait.isdigit() else None)

    def _ready(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = _client(self._store, self._credentials)
            return self._client


def _client(store: S3Store, credentials: Credentials) -> Any:
    from botocore.config import Config
    from botocore.session import Session

    session = Session()
    session.register_component("data_loader", _models())
    session.register_component("credential_provider", credentials)
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=store.request_seconds,
        max_pool_connections=store.max_connections,
        retries={"total_max_attempts": 1, "mode": "standard"},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if store.path_style else "virtual", "payload_signing_enabled": False},
    )
    client = session.create_client(
        "s3",
        region_name=store.region,
        endpoint_url=store.endpoint,
        verify=str(store.ca_file) if store.ca_file is not None else None,
        config=config,
    )
    client.meta.events.register("before-sign.s3.DeleteObjects", _with_md5)
    return client


@functools.cache
def _models() -> Any:
    """Amazon's description of S3: megabytes that all clients of the process read, and nobody changes."""
    from botocore.session import Session

    return Session().get_component("data_loader")


def _with_md5(request: Any, **_: Any) -> None:
    """Some compatibles still ask for it; the others check one more thing."""
    digest = hashlib.md5(request.data, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()
