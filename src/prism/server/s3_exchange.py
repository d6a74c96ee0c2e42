"""One S3 request and its answer: bucket and key out of the raw path, S3's errors, and nothing that decides anything.

A path is percent-decoded exactly once and never normalised, so every key arrives as it was meant. S3's own names for
errors come from `server/status.py`, or from an error's `context["s3_code"]` where S3 knows more kinds than Prism does.
"""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.types import Scope

from ..blob.sigv4 import Chain, Claim, query_pairs
from ..errors import ErrorCode, PrismError
from ..model import Caller, ObjectRef
from .headers import Header
from .http_exchange import Receive, Reply, Send, decoded, error_headers
from .s3_xml import document, element
from .services import Services
from .status import STATUS
from .transfer import Pace

__all__ = ["S3Request", "error_reply", "invalid", "refused", "unimplemented", "xml_reply"]

_STATUS_OF: Mapping[str, HTTPStatus] = {
    "MethodNotAllowed": HTTPStatus.METHOD_NOT_ALLOWED,
    "MissingContentLength": HTTPStatus.LENGTH_REQUIRED,
}
_SHOWN = {"region": "Region", "size_bytes": "ActualObjectSize"}
_XML: Header = (b"content-type", b"application/xml")


def invalid(s3_code: str, what: str) -> PrismError:
    """INVALID_ARGUMENT by S3's own name."""
    return PrismError(ErrorCode.INVALID_ARGUMENT, what, context={"s3_code": s3_code})


def unimplemented(what: str) -> PrismError:
    """S3 knows it, Prism does not do it."""
    return PrismError(ErrorCode.UNIMPLEMENTED, f"{what} is not implemented")


class S3Request:
    """One request. `bucket` and `key` are decoded; who calls is known once `admit` was called."""

    __slots__ = (
        *("bucket", "caller", "chain", "claim", "common", "headers", "key", "method", "namespace", "pace", "pairs"),
        *("path", "query", "raw_headers", "receive", "send", "services", "started", "unread"),
    )

    caller: Caller
    claim: Claim
    chain: Chain
    namespace: str

    def __init__(
        self,
        scope: Scope,
        raw_headers: Mapping[bytes, bytes],
        common: list[Header],
        services: Services,
        receive: Receive,
        send: Send,
    ) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["raw_path"].decode("latin-1")
        self.raw_headers = raw_headers
        self.headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in raw_headers.items()}
        self.common = common
        """Headers that every answer carries."""
        self.services = services
        self.receive = receive
        self.send = send
        self.started = False
        """The head of the answer has left."""
        self.unread = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        """A body was announced and is not read to its end."""
        self.pace = Pace(services.config.limits)
        self.pairs = query_pairs(scope["query_string"])
        self.query: dict[str, str] = {}
        self.bucket = self.key = ""

    async def start(self, status: int, headers: list[Header]) -> None:
        """The head of the answer."""
        self.started = True
        await self.send({"type": "http.response.start", "status": status, "headers": headers + self.common})

    def parse(self) -> None:
        """Take path and query apart. INVALID_ARGUMENT for what cannot be decoded or is ambiguous."""
        bucket, _, key = self.path.encode("latin-1").removeprefix(b"/").partition(b"/")
        self.bucket, self.key = decoded(bucket, "the bucket's name"), decoded(key, "the key")
        if self.key and not self.bucket:
            raise invalid("InvalidBucketName", "the path names no bucket")
        for name, value in self.pairs:
            text = _utf8(name)
            if text in self.query:
                raise invalid("InvalidArgument", f"query parameter {text[:80]!r} is given twice")
            self.query[text] = _utf8(value)

    def admit(self, caller: Caller, namespace: str, claim: Claim, chain: Chain) -> None:
        """The signature was verified."""
        self.caller, self.namespace, self.claim, self.chain = caller, namespace, claim, chain

    @property
    def ref(self) -> ObjectRef:
        return ObjectRef(self.namespace, self.bucket, self.key)


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise invalid("InvalidArgument", "the query is not UTF-8") from error


def xml_reply(name: str, parts: list[str], headers: list[Header] | None = None) -> Reply:
    """200 with a document."""
    return Reply(200, [_XML, *(headers or [])], document(name, parts))


def error_reply(error: PrismError, method: str, path: str, request_id: str) -> Reply:
    """What a caller is told of an error. Answers to HEAD, and 304, have no body."""
    row = STATUS[error.code]
    code = error.context.get("s3_code", row.s3)
    status = _STATUS_OF.get(code, row.s3_http)
    headers = error_headers(error)
    if error.code is ErrorCode.NOT_MODIFIED:
        return Reply(status, headers)
    if method == "HEAD":
        return Reply(status, [_XML, *headers])
    parts = [element("Code", code), element("Message", error.message), element("Resource", path)]
    parts += [element(_SHOWN[name], value) for name, value in error.context.items() if name in _SHOWN]
    return Reply(status, [_XML, *headers], document("Error", [*parts, element("RequestId", request_id)]))


def refused(error: PrismError, request_id: str) -> Reply:
    """What a caller is told when no request came of what he sent."""
    reply = error_reply(error, "", "", request_id)
    status = 431 if error.code is ErrorCode.TOO_LARGE else reply.status
    return Reply(status, [*reply.headers, (b"x-amz-request-id", request_id.encode())], reply.body)
