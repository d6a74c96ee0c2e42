"""AWS Signature Version 4 for S3: signing URLs, and verifying requests by header, by query and chunk by chunk.

A path is taken as it was sent: S3 encodes once and normalises nothing, so `//`, `..` and `%2F` stay what they are. A
claim says who pretends to have signed and what; it proves nothing before `verify`, which compares in constant time.
What a client adds to a signed request must not change its meaning: every `x-amz-*` header has to be signed.
Errors carry `context["s3_code"]`, S3's own name; no message holds a signature or a secret.
(docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html)
"""

import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import msgspec

from ..errors import ErrorCode, PrismError

__all__ = [
    "LONGEST_URL_SECONDS",
    "STREAMING",
    "Chain",
    "Claim",
    "Credential",
    "Signable",
    "claim_of",
    "presign",
    "query_pairs",
    "verify",
]

LONGEST_URL_SECONDS = 3600
"""The longest life of a presigned URL (seed ADR-032, MAX_PRESIGNED_EXPIRY)."""
STREAMING = "STREAMING-"
"""Payload hashes that begin so say that the body comes in `aws-chunked` pieces."""
_ALGORITHM = "AWS4-HMAC-SHA256"
_OTHER_MECHANISM = f"this way of signing is not supported; use {_ALGORITHM} (signature version s3v4)"
_UNSIGNED = "UNSIGNED-PAYLOAD"
_EMPTY_SHA256 = sha256(b"").hexdigest()
_WINDOW = timedelta(minutes=15)
_SAFE = "-_.~"
_DOTS = re.compile(r"(?<=/)\.{1,2}(?=/|\Z)")
_FIELD = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]+)\s*\Z")
_STAMP = re.compile(r"\d{8}T\d{6}Z\Z", re.ASCII)
_MAY_BE_UNSIGNED = frozenset({"x-amz-content-sha256", "x-amz-date", "x-amz-user-agent"})


class Credential(msgspec.Struct, frozen=True):
    """A key pair, and the region that its signatures name. Printing it shows no secret."""

    access_key: str
    secret: str
    region: str = "us-east-1"

    def __repr__(self) -> str:
        return f"Credential({self.access_key!r}, ***, {self.region!r})"


class Signable(msgspec.Struct, frozen=True):
    """The parts of a request that a signature covers: raw path, decoded query in the order sent, and headers by
    lower-case name, values of one name joined by commas, bytes as Latin-1."""

    method: str
    raw_path: str
    query: Sequence[tuple[bytes, bytes]]
    headers: Mapping[str, str]


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a request says about its signature. `expires_seconds` is None when it came in a header."""

    access_key: str
    region: str
    signed_at: datetime
    signed_headers: tuple[str, ...]
    payload_hash: str
    signature: str
    expires_seconds: int | None = None

    def __repr__(self) -> str:
        return f"Claim({self.access_key!r}, {self.signed_at.isoformat()})"


class Chain:
    """The chain of signatures over the pieces of an `aws-chunked` body; each one covers the one before."""

    def __init__(self, key: bytes, stamp: str, scope: str, signature: str) -> None:
        self._key = key
        self._head = f"{stamp}\n{scope}\n"
        self._previous = signature

    def __repr__(self) -> str:
        return "Chain(***)"

    def chunk(self, content_sha256: str, signature: str) -> None:
        """The next piece; SIGNATURE_MISMATCH unless the signature is right."""
        self._step(f"{_ALGORITHM}-PAYLOAD\n{self._head}{self._previous}\n{_EMPTY_SHA256}\n{content_sha256}", signature)

    def trailer(self, trailers: Iterable[tuple[str, str]], signature: str) -> None:
        """The trailing headers in the order sent; SIGNATURE_MISMATCH unless the signature is right."""
        lines = "".join(f"{name}:{value}\n" for name, value in trailers)
        digest = sha256(lines.encode("latin-1")).hexdigest()
        self._step(f"{_ALGORITHM}-TRAILER\n{self._head}{self._previous}\n{digest}", signature)

    def _step(self, text: str, signature: str) -> None:
        expected = hmac.digest(self._key, text.encode(), "sha256").hex()
        if not _same(expected, signature):
            raise _mismatch()
        self._previous = expected


def presign(
    credential: Credential,
    method: str,
    base_url: str,
    path: str,
    *,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    expires_seconds: int,
    now: datetime,
) -> str:
    """A URL for `path` (as a person writes it, beginning with `/`) that lives `expires_seconds` from `now`.

    `headers` are bound beside Host: the client must send them as they are. `query` is signed along.
    """
    stamp = _stamp(now)
    scope = f"{stamp[:8]}/{credential.region}/s3/aws4_request"
    scheme, _, host = base_url.rstrip("/").partition("://")
    host = host.removesuffix(":443" if scheme == "https" else ":80")
    bound = {"host": host}
    if headers:
        bound.update((name.lower(), " ".join(value.split())) for name, value in headers.items())
    names = ";".join(sorted(bound))
    pairs = [
        ("X-Amz-Algorithm", _ALGORITHM),
        ("X-Amz-Credential", quote(f"{credential.access_key}/{scope}", safe=_SAFE)),
        ("X-Amz-Date", stamp),
        ("X-Amz-Expires", str(expires_seconds)),
        ("X-Amz-SignedHeaders", names.replace(";", "%3B")),
    ]
    if query:
        pairs.extend((quote(name, safe=_SAFE), quote(value, safe=_SAFE)) for name, value in query.items())
        pairs.sort()
    text = "&".join([f"{name}={value}" for name, value in pairs])
    encoded = quote(path, safe="/" + _SAFE)
    lines = "".join([f"{name}:{bound[name]}\n" for name in sorted(bound)])
    canonical = f"{method}\n{encoded}\n{text}\n{lines}\n{names}\n{_UNSIGNED}"
    signature = _signature(_signing_key(credential.secret, stamp[:8], credential.region), stamp, scope, canonical)
    # Clients resolve `.` and `..` segments before they send; written so, these reach the server.
    shown = _DOTS.sub(lambda dots: "%2E" * len(dots[0]), encoded) if "/." in encoded else encoded
    return f"{scheme}://{host}{shown}?{text}&X-Amz-Signature={signature}"


def query_pairs(raw_query: bytes) -> list[tuple[bytes, bytes]]:
    """The decoded pairs of a query in the order sent; a `+` is a space, a name alone has an empty value."""
    pairs = []
    for part in raw_query.split(b"&"):
        if part:
            name, _, value = part.replace(b"+", b" ").partition(b"=")
            pairs.append((unquote_to_bytes(name), unquote_to_bytes(value)))
    return pairs


def claim_of(request: Signable) -> Claim | None:
    """The claim in the headers or in the query; None for a request that claims nothing.

    Errors: INVALID_ARGUMENT for a claim that is malformed, of another algorithm, or made twice.
    """
    header = request.headers.get("authorization")
    by_query = any(name in {b"X-Amz-Algorithm", b"X-Amz-Signature"} for name, _ in request.query)
    if header is not None and by_query:
        raise _invalid("InvalidArgument", "a request is signed in its header or in its query, not in both")
    if header is not None:
        return _header_claim(header, request)
    if not by_query and any(name == b"AWSAccessKeyId" for name, _ in request.query):
        raise _invalid("InvalidRequest", _OTHER_MECHANISM)
    return _query_claim(request) if by_query else None


def verify(claim: Claim, credential: Credential, request: Signable, now: datetime) -> Chain:
    """Whether the owner of the credential signed this very request, and whether it is still good.

    Errors: SIGNATURE_MISMATCH, PERMISSION_DENIED (expired, not yet valid, unsigned headers), INVALID_ARGUMENT.
    """
    if claim.region != credential.region:
        what = f"the region {claim.region[:64]!r} is wrong; expecting {credential.region!r}"
        raise _invalid("AuthorizationHeaderMalformed", what, region=credential.region)
    _check_time(claim, now)
    _check_coverage(claim, request.headers)
    stamp = _stamp(claim.signed_at)
    scope = f"{stamp[:8]}/{claim.region}/s3/aws4_request"
    key = _signing_key(credential.secret, stamp[:8], claim.region)
    tail = _canonical_tail(claim, request)
    paths = {request.raw_path: None, quote_from_bytes(unquote_to_bytes(request.raw_path), safe="/" + _SAFE): None}
    for path in paths:
        if _same(_signature(key, stamp, scope, f"{request.method}\n{path}\n{tail}"), claim.signature):
            return Chain(key, stamp, scope, claim.signature)
    raise _mismatch()


def _header_claim(header: str, request: Signable) -> Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != _ALGORITHM:
        raise _invalid("InvalidRequest", _OTHER_MECHANISM)
    fields = {found[1]: found[2] for part in rest.split(",") if (found := _FIELD.match(part))}
    if len(fields) != 3 or rest.count(",") != 2:
        raise _invalid("AuthorizationHeaderMalformed", "Authorization needs Credential, SignedHeaders and Signature")
    payload_hash = request.headers.get("x-amz-content-sha256")
    if payload_hash is None:
        raise _invalid("InvalidRequest", "the header x-amz-content-sha256 is missing")
    signed_at = _instant(request.headers.get("x-amz-date", ""), "AccessDenied")
    access_key, region = _scoped(fields["Credential"], signed_at, "AuthorizationHeaderMalformed")
    return Claim(
        access_key=access_key,
        region=region,
        signed_at=signed_at,
        signed_headers=tuple(fields["SignedHeaders"].split(";")),
        payload_hash=payload_hash,
        signature=fields["Signature"],
    )


def _query_claim(request: Signable) -> Claim:
    code = "AuthorizationQueryParametersError"
    found: dict[str, str] = {}
    for name, value in request.query:
        if name.startswith(b"X-Amz-"):
            text = name.decode("latin-1")
            if text in found:
                raise _invalid(code, f"{text[:80]} stands in the query twice")
            found[text] = value.decode("latin-1")
    missing = [f"X-Amz-{n}" for n in ("Credential", "Date", "Expires", "SignedHeaders", "Signature")]
    missing = [name for name in missing if not found.get(name)]
    if missing or found.get("X-Amz-Algorithm") != _ALGORITHM:
        raise _invalid(code, f"a signed query needs X-Amz-Algorithm={_ALGORITHM}, X-Amz-Credential, X-Amz-Date, "
                       "X-Amz-Expires, X-Amz-SignedHeaders and X-Amz-Signature")  # fmt: skip
    expires = found["X-Amz-Expires"]
    if not (expires.isascii() and expires.isdigit() and len(expires) < 9 and 1 <= int(expires) <= LONGEST_URL_SECONDS):
        raise _invalid(code, f"X-Amz-Expires is 1 to {LONGEST_URL_SECONDS} seconds")
    signed_at = _instant(found["X-Amz-Date"], code)
    access_key, region = _scoped(found["X-Amz-Credential"], signed_at, code)
    signed_headers = tuple(found["X-Amz-SignedHeaders"].split(";"))
    payload_hash = found.get("X-Amz-Content-Sha256", _UNSIGNED)
    if "x-amz-content-sha256" in signed_headers:
        payload_hash = request.headers.get("x-amz-content-sha256", _UNSIGNED)
    return Claim(
        access_key=access_key,
        region=region,
        signed_at=signed_at,
        signed_headers=signed_headers,
        payload_hash=payload_hash,
        signature=found["X-Amz-Signature"],
        expires_seconds=int(expires),
    )


def _scoped(credential: str, signed_at: datetime, code: str) -> tuple[str, str]:
    """Access key and region of `key/date/region/s3/aws4_request`; an access key may hold slashes."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[3:] != ["s3", "aws4_request"] or not parts[0]:
        raise _invalid(code, "the credential is not ACCESS-KEY/YYYYMMDD/REGION/s3/aws4_request")
    if parts[1] != f"{signed_at:%Y%m%d}":
        raise _invalid(code, "the day in the credential is not the day of the signature")
    return parts[0], parts[2]


def _check_time(claim: Claim, now: datetime) -> None:
    if claim.expires_seconds is None:
        if abs(now - claim.signed_at) > _WINDOW:
            raise _denied("RequestTimeTooSkewed", "the request's time differs from the server's by over 15 minutes")
    elif claim.signed_at > now + _WINDOW:
        raise _denied("AccessDenied", "the request is not valid yet")
    elif now >= claim.signed_at + timedelta(seconds=claim.expires_seconds):
        raise _denied("AccessDenied", "the request has expired")


def _check_coverage(claim: Claim, headers: Mapping[str, str]) -> None:
    signed = set(claim.signed_headers)
    unsigned = {name for name in headers if name.startswith("x-amz-")} - signed - _MAY_BE_UNSIGNED
    if "host" not in signed or unsigned:
        what = ", ".join(sorted(unsigned)) or "host"
        raise _denied("AccessDenied", f"there are headers in the request that were not signed: {what[:200]}")


def _canonical_tail(claim: Claim, request: Signable) -> str:
    """The canonical request after its path: query, headers, names, payload hash."""
    pairs = sorted(
        (quote_from_bytes(name, safe=_SAFE), quote_from_bytes(value, safe=_SAFE))
        for name, value in request.query
        if name != b"X-Amz-Signature"
    )
    query = "&".join([f"{name}={value}" for name, value in pairs])
    headers = request.headers
    lines = "".join([f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in claim.signed_headers])
    return f"{query}\n{lines}\n{';'.join(claim.signed_headers)}\n{claim.payload_hash}"


def _signature(key: bytes, stamp: str, scope: str, canonical: str) -> str:
    digest = sha256(canonical.encode("latin-1")).hexdigest()
    return hmac.digest(key, f"{_ALGORITHM}\n{stamp}\n{scope}\n{digest}".encode(), "sha256").hex()


def _same(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode())


@lru_cache(maxsize=1024)
def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _stamp(at: datetime) -> str:
    return f"{at.year:04}{at.month:02}{at.day:02}T{at.hour:02}{at.minute:02}{at.second:02}Z"


def _instant(text: str, code: str) -> datetime:
    if _STAMP.match(text):
        try:
            return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            pass
    raise _invalid(code, "a signature needs X-Amz-Date, as in 20130524T000000Z")


def _invalid(s3_code: str, what: str, **context: str) -> PrismError:
    return PrismError(ErrorCode.INVALID_ARGUMENT, what, context={"s3_code": s3_code, **context})


def _denied(s3_code: str, what: str) -> PrismError:
    return PrismError(ErrorCode.PERMISSION_DENIED, what, context={"s3_code": s3_code})


def _mismatch() -> PrismError:
    return PrismError(ErrorCode.SIGNATURE_MISMATCH, "the signature does not match the request and the secret key")
