"""What every HTTP-based server asks of a request before it looks at it: its id, and whether a foreign web page sent it.

*Cross-origin*: off unless `server.cors_origins` names origins. Then their pages get the headers that let a browser hand
them the answer; credentials (cookies) are never allowed, because none are used.

*Foreign pages*: a browser carries requests of any web page to servers that only its user can reach. Where everybody who
reaches the server may do everything, that must not be enough:
- on the open loopback default the `Host` has to be a loopback name or address, the configured host or the host of the
  public URL, so a foreign name that was pointed to 127.0.0.1 (DNS rebinding) gets nothing;
- there, too, whatever a browser marks as sent by another origin (`Origin`, `Sec-Fetch-Site`) is refused, reads as well;
  following a link to this server (a top-level navigation by GET) is allowed, and so are `server.cors_origins`;
- with `auth: open`, requests of other origins that change something are refused unless `server.cors_origins` has them.
Programs that are no browsers send none of these headers and notice nothing.
"""

import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from urllib.parse import urlsplit

from ..config import Config, Endpoint
from ..errors import ErrorCode, PrismError
from .headers import Header

__all__ = ["BrowserGuard", "Cors", "RequestHeaders", "request_id_of"]

RequestHeaders = Mapping[bytes, bytes]
"""Names in lower case."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}\Z")
_NAMES = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~, -]{0,4096}\Z")
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_EXPOSED = (
    b"*, ETag, Last-Modified, Content-Length, Content-Range, Accept-Ranges, Retry-After, X-Request-Id, "
    b"Prism-Expires-At, Prism-Version-Id, Prism-Checksum-CRC32C, Prism-Checksum-SHA256"
)
_VARY_PREFLIGHT = b"Access-Control-Request-Method, Access-Control-Request-Headers"


def request_id_of(headers: RequestHeaders, new: Callable[[], str]) -> str:
    """The caller's `x-request-id` if it is 1 to 128 of `A-Za-z0-9._-`, else a new one."""
    given = headers.get(b"x-request-id")
    return given.decode() if given is not None and _REQUEST_ID.match(given) else new()


class Cors:
    """The pages of which origins may read answers. Without any, nothing is added to any response."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.lower().encode() for origin in origins)
        self._unnamed: list[Header] = [(b"vary", b"Origin")] if self._origins and not self._any else []

    def allows(self, origin: bytes) -> bool:
        """Whether pages of this origin may read answers."""
        return self._any or origin.lower() in self._origins

    def headers(self, headers: RequestHeaders) -> list[Header]:
        """What to add to the response, error or not."""
        if not self._origins:
            return []
        origin = headers.get(b"origin")
        if origin is None or not self.allows(origin):
            return self._unnamed
        return [
            (b"access-control-allow-origin", self._told(origin)),
            (b"access-control-expose-headers", _EXPOSED),
            *self._unnamed,
        ]

    def preflight(self, method: str, headers: RequestHeaders) -> list[Header] | None:
        """What a 204 for a preflight has beside `headers`; None: it is no preflight, or its origin is not allowed."""
        origin, wanted = headers.get(b"origin"), headers.get(b"access-control-request-method")
        if method != "OPTIONS" or origin is None or wanted is None or not self.allows(origin):
            return None
        asked = headers.get(b"access-control-request-headers", b"")
        if not _NAMES.match(wanted) or not _NAMES.match(asked):
            return None
        answer = [
            (b"access-control-allow-methods", b"GET, HEAD, PUT, POST, DELETE"),
            (b"access-control-max-age", b"600"),
            (b"vary", _VARY_PREFLIGHT),
        ]
        if asked:
            answer.append((b"access-control-allow-headers", asked))
        if headers.get(b"access-control-request-private-network") == b"true":
            answer.append((b"access-control-allow-private-network", b"true"))
        return answer

    def _told(self, origin: bytes) -> bytes:
        return b"*" if self._any else origin


class BrowserGuard:
    """Refuses what a foreign web page makes a browser send; see the module's text for the rules."""

    def __init__(self, config: Config, endpoint: Endpoint, cors: Cors) -> None:
        self._loopback_only = config.auth.mode is None
        self._cors = cors
        self._public = urlsplit(endpoint.public_url or "").netloc.lower().encode()
        hosts = {endpoint.host.lower(), _host_of(self._public)}
        self._serves = lru_cache(maxsize=256)(lambda host: _is_loopback_name(_host_of(host), hosts))

    def check(self, method: str, headers: RequestHeaders) -> None:
        """PERMISSION_DENIED for a Host that is not ours, or a sender that is foreign."""
        host = headers.get(b"host", b"")
        if self._loopback_only and host and not self._serves(host):
            raise PrismError(
                ErrorCode.PERMISSION_DENIED,
                "only loopback names lead here; server.http.public_url sets another one, `auth: open` takes any",
            )
        if (b"origin" in headers or b"sec-fetch-site" in headers) and self._is_foreign(method, host, headers):
            raise PrismError(
                ErrorCode.PERMISSION_DENIED,
                "requests from pages of other origins are refused; server.cors_origins names allowed ones",
            )

    def _is_foreign(self, method: str, host: bytes, headers: RequestHeaders) -> bool:
        if method in _SAFE and not self._loopback_only:
            return False
        origin = headers.get(b"origin")
        if origin is not None:
            sender = origin.partition(b"://")[2].lower()
            own = sender and sender in {host.lower(), self._public}
            return not (own or self._cors.allows(origin))
        if headers[b"sec-fetch-site"] in {b"same-origin", b"none"}:
            return False
        navigation = headers.get(b"sec-fetch-mode") == b"navigate" and headers.get(b"sec-fetch-dest") == b"document"
        return not (navigation and method in _SAFE)


def _host_of(netloc: bytes) -> str:
    """Without port, brackets and the final dot, in lower case."""
    host = netloc.decode("latin-1").lower()
    host = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    return host.removesuffix(".")


def _is_loopback_name(host: str, configured: set[str]) -> bool:
    if host and (host in configured or host == "localhost" or host.endswith(".localhost")):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
