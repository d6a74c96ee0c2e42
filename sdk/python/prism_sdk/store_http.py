"""The client's own HTTP to a store: signed URLs only, whole answers as typed errors, and no URL in any of them.

Requests go to httpx's transport rather than to its client, which would log each URL with its signature. Proxies of the
environment are used, redirects are not followed. A store that asks for patience or breaks off is UNAVAILABLE; whether
to try again is the caller's affair.
"""

import contextlib
import re
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from .errors import (
    ChecksumMismatch,
    InvalidArgument,
    ObjectNotFound,
    PermissionDenied,
    PreconditionFailed,
    PrismError,
    RangeError,
    StoreUnreachable,
    TooLarge,
    Unavailable,
)

__all__ = ["Opened", "Store", "URLRefused"]

_CONNECT_SECONDS = 10.0
_ERROR_BYTES = 16 << 10
_CODE = re.compile(rb"<(?:Code|code)>([A-Za-z0-9]{1,64})</")
_EXPIRED = frozenset({"ExpiredToken", "RequestExpired", "ExpiredPresignedUrlRequest"})
_PASSING = frozenset({"RequestTimeout", "IncompleteBody", "SlowDown"})
_DIGESTS = frozenset({"BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "Md5Mismatch", "Crc64Mismatch"})
_LATER = frozenset({408, 409, 423, 425, 429})


class URLRefused(PermissionDenied):
    """The store does not take the URL: most often it expired, and a new one helps."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that is being read. `total_bytes` of the whole object, `etag` as the store writes it; None: untold."""

    etag: str | None
    total_bytes: int | None
    pieces: Iterator[bytes]


class Store:
    """Used by several threads. `reached`: a store answered at least once."""

    def __init__(self, ca_file: Path | None, stall_seconds: float) -> None:
        self._ca_file = ca_file
        self._timeout = {
            "connect": min(_CONNECT_SECONDS, stall_seconds),
            "read": stall_seconds,
            "write": stall_seconds,
            "pool": stall_seconds,
        }
        self._lock = threading.Lock()
        self._transports: dict[tuple[bool, str | None], httpx.HTTPTransport] = {}
        self.reached = False

    def close(self) -> None:
        """Close what is idle; what is under way ends with an error."""
        with self._lock:
            for transport in self._transports.values():
                transport.close()
            self._transports.clear()

    def put(self, url: str, headers: Mapping[str, str], size_bytes: int, pieces: Iterator[bytes]) -> None:
        """Send exactly these bytes. Returns when the store has taken them.

        Errors: URLRefused, PRECONDITION_FAILED (something lies there), OBJECT_NOT_FOUND, ChecksumMismatch, TooLarge,
        InvalidArgument, UNAVAILABLE.
        """
        request = self._request("PUT", url, {"content-length": str(size_bytes), **headers}, pieces)
        with self._answer(request) as response:
            if not response.is_success:
                raise _refused(response)

    @contextlib.contextmanager
    def get(self, url: str, headers: Mapping[str, str], start: int, end: int) -> Iterator[Opened]:
        """Read the bytes from `start` to `end`, which is included. Errors: as `put`, RangeError."""
        asked = {"accept-encoding": "identity", "range": f"bytes={start}-{end}", **headers}
        with self._answer(self._request("GET", url, asked, None)) as response:
            if response.status_code not in {200, 206}:
                raise _refused(response)
            whole = response.status_code == 200
            if whole and start:
                raise InvalidArgument("the store does not serve ranges")
            said = response.headers.get("content-length" if whole else "content-range", "").rpartition("/")[2]
            total = int(said) if said.isdigit() else None
            yield Opened(response.headers.get("etag"), total, response.iter_raw())

    def _request(
        self, method: str, url: str, headers: Mapping[str, str], pieces: Iterator[bytes] | None
    ) -> httpx.Request:
        sent = {name.lower(): value for name, value in headers.items()}
        try:
            return httpx.Request(method, url, headers=sent, content=pieces, extensions={"timeout": self._timeout})
        except (httpx.InvalidURL, ValueError):
            raise InvalidArgument("the server gave a URL that is none") from None  # the cause shows it

    @contextlib.contextmanager
    def _answer(self, request: httpx.Request) -> Iterator[httpx.Response]:
        try:
            response = self._transport(request.url).handle_request(request)
            self.reached = True
            try:
                yield response
            finally:
                response.close()
        except httpx.HTTPError as error:
            raise _broken(error, self.reached) from None  # the cause carries the request, and so the URL
        except httpx.StreamError:
            raise Unavailable("the connection to the store was closed") from None

    def _transport(self, url: httpx.URL) -> httpx.HTTPTransport:
        secure, proxy = url.scheme == "https", _proxy(url.scheme, url.host)
        with self._lock:
            if (secure, proxy) not in self._transports:
                trusted = _trusted(self._ca_file) if secure else False  # they take long to load
                self._transports[secure, proxy] = httpx.HTTPTransport(verify=trusted, proxy=proxy, trust_env=False)
            return self._transports[secure, proxy]


def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    """Public authorities, the machine's and the client's own: a private Prism may have its bytes in a public store."""
    trusted = httpx.create_ssl_context()
    trusted.load_default_certs()
    if ca_file is not None:
        trusted.load_verify_locations(ca_file)
    return trusted


def _proxy(scheme: str, host: str) -> str | None:
    if urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    found = proxies.get(scheme) or proxies.get("all")
    return found if found is None or urlsplit(found).scheme else f"http://{found}"


def _refused(response: httpx.Response) -> PrismError:
    """The store's answer as an error: status and code are told, its text may hold the URL and is not."""
    code, status = _code(response), response.status_code
    said = f"the store answered {status}{f' {code}' if code else ''}"
    if status in {401, 403} or code in _EXPIRED:
        return URLRefused(f"{said} to a signed URL")
    if status >= 500 or status in _LATER or code in _PASSING:
        return Unavailable(said, retryable=True, retry_after_seconds=_seconds(response.headers.get("retry-after", "")))
    if code in _DIGESTS:
        return ChecksumMismatch(said)
    kinds: Mapping[int, type[PrismError]] = {
        404: ObjectNotFound,
        412: PreconditionFailed,
        413: TooLarge,
        416: RangeError,
    }
    return kinds.get(status, InvalidArgument)(said)


def _code(response: httpx.Response) -> str:
    text = b""
    with contextlib.suppress(httpx.HTTPError):
        for piece in response.iter_raw():
            text += piece
            if len(text) >= _ERROR_BYTES:
                break
    found = _CODE.search(text)
    return found[1].decode() if found else ""


def _seconds(text: str) -> float | None:
    return min(float(text), 60.0) if text.isdigit() else None


def _broken(error: httpx.HTTPError, reached: bool) -> PrismError:
    """StoreUnreachable only while nothing was ever reached; later it is an outage, which passes."""
    if not reached and isinstance(
        error, httpx.ConnectError | httpx.ConnectTimeout | httpx.ProxyError | httpx.UnsupportedProtocol
    ):
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return StoreUnreachable(f"the store's certificate is not trusted: {cause.verify_message}")
            cause = cause.__cause__ or cause.__context__
        return StoreUnreachable("the store cannot be reached from here")
    if isinstance(error, httpx.TimeoutException):
        return Unavailable("the store did not answer within the client's stall timeout")
    return Unavailable("the connection to the store broke")
