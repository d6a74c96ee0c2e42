"""V4 signed URLs of Google Cloud Storage: what exactly is signed, for whom, and for how long.

A URL names the path, the host that clients see, every bound header and its own lifetime; the store refuses whatever
differs. Headers that begin with `x-goog-` are refused unless they were signed, so a URL that binds nothing cannot be
given metadata either. (https://cloud.google.com/storage/docs/authentication/canonical-requests)
"""

import base64
import hashlib
import urllib.parse
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from .driver import Bound
from .obstores import fitted

__all__ = ["METADATA_BYTES", "bound_headers", "signed_url"]

METADATA_BYTES = 8192
"""All metadata of an object, names and values together."""
_ALGORITHM = "GOOG4-RSA-SHA256"


def signed_url(
    method: str,
    endpoint: str,
    path: str,
    *,
    email: str,
    sign: Callable[[bytes], bytes],
    now: datetime,
    lasting_seconds: int,
    headers: Mapping[str, str],
    query: Mapping[str, str],
) -> str:
    """A URL for one method and path (not encoded yet) of `endpoint`, to be sent with exactly these `headers`."""
    origin, host = _origin(endpoint)
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()} | {"host": host}
    names = ";".join(sorted(signed))
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{stamp[:8]}/auto/storage/goog4_request"
    asked = {
        **query,
        "X-Goog-Algorithm": _ALGORITHM,
        "X-Goog-Credential": f"{email}/{scope}",
        "X-Goog-Date": stamp,
        "X-Goog-Expires": str(lasting_seconds),
        "X-Goog-SignedHeaders": names,
    }
    pairs = sorted((_quoted(name), _quoted(value)) for name, value in asked.items())
    text = "&".join(f"{name}={value}" for name, value in pairs)
    shown = urllib.parse.quote(path, safe="/~")
    lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
    canonical = f"{method}\n{shown}\n{text}\n{lines}\n{names}\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signature = sign(f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode()).hex()
    return f"{origin}{shown}?{text}&X-Goog-Signature={signature}"


def bound_headers(bound: Bound, kms_key: str | None) -> dict[str, str]:
    """What a PUT must carry to be what was declared."""
    headers = {}
    if bound.create_only:
        headers["x-goog-if-generation-match"] = "0"
    if bound.size_bytes is not None:
        headers["x-goog-content-length-range"] = f"{bound.size_bytes},{bound.size_bytes}"
    if bound.content_type:
        headers["Content-Type"] = bound.content_type
    hashes = [f"crc32c={bound.crc32c}"] if bound.crc32c else []
    if bound.md5:
        hashes.append(f"md5={base64.b64encode(bytes.fromhex(bound.md5)).decode()}")
    if hashes:
        headers["x-goog-hash"] = ",".join(hashes)
    if kms_key:
        headers["x-goog-encryption-kms-key-name"] = kms_key
    fields = fitted(bound.metadata, METADATA_BYTES)
    return headers | {f"x-goog-meta-{name}": value for name, value in fields.items()}


def _origin(endpoint: str) -> tuple[str, str]:
    """Scheme and host, and the host alone, as clients send it: without the scheme's own port."""
    parts = urllib.parse.urlsplit(endpoint)
    host = parts.netloc.removesuffix(":443" if parts.scheme == "https" else ":80")
    return f"{parts.scheme}://{host}", host


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="~")
