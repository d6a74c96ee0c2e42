"""Requests to one bucket of Google Cloud Storage, sent from threads: connections, credentials, answers, refusals.

obstore is not used here. It writes through the XML API, whose uploads in parts take no preconditions, so a large put
could not be create-only; it knows no checksums and refuses keys such as `a//b`. The JSON API does all of it, and reads
through urllib3 cost no more of the processor. Nothing is repeated here, and nothing that a library says gets out: its
text holds URLs. A request that was begun is waited for a little when its caller gives up, so that a cancelled write has
happened or has not.
"""

import asyncio
import contextlib
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any, TypeVar, TypeVarTuple

import msgspec

from ..config import GCSStore
from ..errors import ErrorCode, PrismError
from .driver import Throttled
from .gcs_identity import GOOGLE, Identity
from .obstores import answered
from .threads import Threads

__all__ = ["Answer", "Http", "Piece", "Reading"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Piece = bytes | bytearray | memoryview
Query = Mapping[str, str | int | None]
_CHUNK_BYTES = 2**20
_MOST_ANSWER_BYTES = 32 * 2**20
_MOST_THREADS = 128
_LEAVING_SECONDS = 5.0
_FRESH_SECONDS = 10.0
_LIMITED = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_FULL = frozenset({"quotaExceeded", "storageQuotaExceeded"})


class Answer(msgspec.Struct, frozen=True):
    """What the store answered. Names of headers are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def resource(self) -> dict[str, Any]:
        """The body's JSON object; empty when it is none."""
        with contextlib.suppress(msgspec.DecodeError):
            decoded = msgspec.json.decode(self.body)
            if isinstance(decoded, dict):
                return decoded
        return {}


class Http:
    """The bucket's door. Use it from the loop that made it."""

    def __init__(self, store: GCSStore, identity: Identity) -> None:
        import urllib3

        self.bucket = store.bucket
        self.identity = identity
        self.threads = Threads(min(store.max_connections, _MOST_THREADS), f"gcs-{store.bucket}")
        self._endpoint = (store.endpoint or GOOGLE).rstrip("/")
        self._pool = urllib3.PoolManager(
            maxsize=store.max_connections,
            timeout=urllib3.Timeout(connect=min(10.0, store.request_seconds), read=store.request_seconds),
            ca_certs=str(store.ca_file) if store.ca_file else None,
        )
        self._answered_at = float("-inf")

    async def ask(
        self,
        method: str,
        path: str,
        query: Query,
        *,
        headers: Mapping[str, str] | None = None,
        body: Iterable[Piece] = (),
    ) -> Answer:
        """One request and its whole answer, whatever the status. The body's pieces are sent as they are."""
        leaving = 0.0 if method == "GET" else _LEAVING_SECONDS
        return await self._run(leaving, self._ask, method, path, query, dict(headers or {}), list(body))

    async def ask_json(self, method: str, path: str, query: Query, content: object) -> Answer:
        """Likewise, with a JSON body."""
        headers = {"Content-Type": "application/json; charset=UTF-8"}
        return await self.ask(method, path, query, headers=headers, body=[msgspec.json.encode(content)])

    async def read(self, path: str, query: Query, headers: Mapping[str, str]) -> "tuple[Answer, Reading | None]":
        """A GET whose body is read as it is asked for; None instead where it is a refusal."""
        return await self._run(0.0, self._read, path, query, dict(headers))

    async def take(self, response: Any) -> bytes:
        """The next piece of a body; empty at its end."""
        return await self._run(0.0, self._take, response)

    async def _run(self, leaving_seconds: float, function: Callable[[*Ts], T], *arguments: *Ts) -> T:
        """Call in a thread. A caller that gives up leaves when the call has ended, or after so many seconds; one that
        has not begun never does."""
        call = self.threads.run(function, *arguments)
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if not self.threads.withdraw(call) and leaving_seconds:
                await asyncio.wait([call], timeout=leaving_seconds)
            call.add_done_callback(_forget)
            raise

    def refusal(self, answer: Answer, absent: str = "") -> Exception:
        """What an answer that is no success means; `absent` names what a 404 says of, where it is not the object."""
        code = _code(answer) or ""
        if answer.status == 404 and (absent or code == "NoSuchBucket"):
            return answered(404, absent or code, self.bucket)
        if code in _LIMITED:
            return Throttled(_wait(answer))
        if code in _FULL:
            return answered(507, code, self.bucket)
        return answered(answer.status, code, self.bucket, _wait(answer))

    async def check_bucket(self) -> None:
        """After a 404 that does not say what is absent: STORE_DOWN when it is the bucket.

        Asks only when nothing was found in this bucket for some seconds; a role that may not list learns nothing.
        """
        if time.monotonic() - self._answered_at < _FRESH_SECONDS:
            return
        answer = await self._first()
        if answer.status == 404:
            raise self.refusal(answer, "NoSuchBucket")

    async def glance(self) -> Answer:
        """The smallest question that only a bucket answers."""
        answer = await self._first()
        if answer.status != 200:
            raise self.refusal(answer, "NoSuchBucket")
        return answer

    async def _first(self) -> Answer:
        query: Query = {"maxResults": 1, "fields": "nextPageToken"}
        return await self.ask("GET", f"/storage/v1/b/{self.bucket}/o", query)

    async def close(self) -> None:
        """Wait for what is under way, let threads and connections go."""
        await self.threads.close()
        self._pool.clear()

    def _ask(self, method: str, path: str, query: Query, headers: dict[str, str], body: list[Piece]) -> Answer:
        if body:
            headers["Content-Length"] = str(sum(map(len, body)))
        return self._exchange(lambda: self._whole(self._send(method, path, query, headers, body or None)))

    def _read(self, path: str, query: Query, headers: dict[str, str]) -> "tuple[Answer, Reading | None]":
        def opened() -> "tuple[Answer, Reading | None]":
            response = self._send("GET", path, query, headers, None)
            if response.status not in {200, 206}:
                return self._whole(response), None
            answer = Answer(response.status, _lowered(response.headers))
            return answer, Reading(self, response, response.read(_CHUNK_BYTES))

        return self._exchange(opened)

    def _take(self, response: Any) -> bytes:
        return self._exchange(lambda: bytes(response.read(_CHUNK_BYTES)))

    def _send(self, method: str, path: str, query: Query, headers: dict[str, str], body: list[Piece] | None) -> Any:
        shown = urllib.parse.urlencode({name: value for name, value in query.items() if value is not None})
        response = self._pool.urlopen(
            method,
            f"{self._endpoint}{path}?{shown}" if shown else f"{self._endpoint}{path}",
            body=body,
            headers={"User-Agent": "prism", "Accept-Encoding": "gzip", **self.identity.authorization(), **headers},
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )
        if response.status < 300:
            self._answered_at = time.monotonic()
        return response

    def _whole(self, response: Any) -> Answer:
        encoded = response.headers.get("Content-Encoding", "") == "gzip"
        body = response.read(_MOST_ANSWER_BYTES, decode_content=encoded)
        if response.read(1, decode_content=encoded):
            response.close()
            raise ConnectionError("the store's answer is far too long")
        response.release_conn()
        return Answer(response.status, _lowered(response.headers), body)

    def _exchange(self, call: Callable[[], T]) -> T:
        import urllib3.exceptions as failures

        try:
            return call()
        except failures.SSLError:
            what = "the TLS connection to the store fails: check its certificate, its host name and ca_file"
            known: Exception = PrismError(ErrorCode.STORE_DOWN, what, context={"cause": "TLS"})
        except failures.TimeoutError:
            known = TimeoutError("the store does not answer in time")
        except (failures.HTTPError, OSError):
            known = ConnectionError("the connection to the store failed")
        raise known


class Reading:
    """A body under way, in pieces of at most 1 MiB; the first came with the head of the answer."""

    def __init__(self, http: Http, response: Any, first: bytes) -> None:
        self._http = http
        self._response = response
        self._next = first

    async def __aiter__(self) -> AsyncIterator[bytes]:
        piece, self._next = self._next, b""
        while piece:
            yield piece
            if self._response is None or self._response.length_remaining == 0:
                break
            piece = await self._http.take(self._response)
        await self.aclose()

    async def aclose(self) -> None:
        """Let the connection go."""
        self._next = b""
        response, self._response = self._response, None
        if response is not None:
            _close(response)


def _close(response: Any) -> None:
    """Close a connection that is not read to its end; a thread that waits for it wakes up."""
    with contextlib.suppress(RuntimeError, ValueError, OSError):  # released already
        response.shutdown()
    response.close()


def _forget(call: "asyncio.Future[Any]") -> None:
    """Nobody waits for it: its failure is not worth a warning, and its connection is let go."""
    if call.cancelled() or call.exception() is not None:
        return
    match call.result():
        case (Answer(), Reading(_response=response)) if response is not None:
            _close(response)


def _lowered(headers: Any) -> dict[str, str]:
    """A header that comes twice is one with both values (`x-goog-hash` does)."""
    return {name.lower(): value for name, value in headers.itermerged()}


def _code(answer: Answer) -> str | None:
    """The store's own name of an error: a reason (JSON API) or a code (XML API)."""
    if answer.body.lstrip().startswith(b"<"):
        _, _, rest = answer.body.partition(b"<Code>")
        return rest.partition(b"</Code>")[0][:64].decode("ascii", "ignore")
    error = answer.resource.get("error")
    errors = error.get("errors") if isinstance(error, dict) else None
    first = errors[0] if isinstance(errors, list) and errors else {}
    reason = first.get("reason") if isinstance(first, dict) else None
    return reason[:64] if isinstance(reason, str) else None


def _wait(answer: Answer) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else None
