"""The three APIs behind one small interface, each spoken as a client would, with paths exactly as they are given."""

import asyncio
import base64
import hashlib
import http.client
import json
import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

import grpc
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as pb
from prism_sdk.stubs.prism.objectstore import object_store_pb2_grpc as stubs

from prism.errors import ErrorCode
from prism.server.status import STATUS
from prism.testing.running import Running

__all__ = ["Api", "Ask", "GrpcApi", "HttpApi", "Outcome", "S3Api", "same"]

SPACE, BUCKET = "user-uploads", "prism-objects"


@dataclass(frozen=True)
class Ask:
    """One request in words that all three APIs have; what is None or empty is left out."""

    verb: str
    key: str = ""
    space: str = SPACE
    bucket: str = BUCKET
    body: bytes = b""
    range: tuple[int, int | None] | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    if_match: str = ""
    if_none_match: str = ""
    crc32c: str = ""
    sha256: str = ""
    prefix: str = ""
    token: str = ""
    limit: int | None = None


@dataclass(frozen=True)
class Outcome:
    """`code` is what the API said of an error in its own words, empty when all went well."""

    code: str = ""
    body: bytes = b""
    keys: tuple[str, ...] = ()
    token: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


def same(code: ErrorCode | None, api: "Api") -> str:
    """What `api` calls an error."""
    if code is None:
        return ""
    return STATUS[code].s3 if isinstance(api, S3Api) else str(code)


class Api:
    """One of the APIs of a running Prism."""

    def __init__(self, running: Running) -> None:
        self.running = running

    async def ask(self, ask: Ask) -> Outcome:
        raise NotImplementedError


class GrpcApi(Api):
    """Over the published stubs."""

    async def ask(self, ask: Ask) -> Outcome:
        async with grpc.aio.insecure_channel(self.running.grpc) as channel:
            try:
                return await getattr(self, f"_{ask.verb}")(stubs.ObjectStoreServiceStub(channel), ask)
            except grpc.aio.AioRpcError as error:
                return Outcome(code=_reason(error))

    async def _put(self, stub: stubs.ObjectStoreServiceStub, ask: Ask) -> Outcome:
        message = pb.PutObjectRequest(
            namespace=ask.space,
            bucket=ask.bucket,
            key=ask.key,
            metadata=ask.metadata,
            chunk=ask.body,
            checksum_crc32c=ask.crc32c,
            checksum_sha256=ask.sha256,
            if_match=[ask.if_match] if ask.if_match else [],
            if_none_match=[ask.if_none_match] if ask.if_none_match else [],
        )
        await stub.PutObject(iter([message]))
        return Outcome()

    async def _get(self, stub: stubs.ObjectStoreServiceStub, ask: Ask) -> Outcome:
        start, end = ask.range or (None, None)
        message = pb.GetObjectRequest(
            namespace=ask.space,
            bucket=ask.bucket,
            key=ask.key,
            range_start=start,
            range_end=end,
            if_match=[ask.if_match] if ask.if_match else [],
        )
        answers = [answer async for answer in stub.GetObject(message)]
        return Outcome(body=b"".join(a.chunk for a in answers), metadata=dict(answers[0].metadata))

    async def _head(self, stub: stubs.ObjectStoreServiceStub, ask: Ask) -> Outcome:
        answer = await stub.HeadObject(pb.HeadObjectRequest(namespace=ask.space, bucket=ask.bucket, key=ask.key))
        return Outcome(metadata=dict(answer.metadata))

    async def _delete(self, stub: stubs.ObjectStoreServiceStub, ask: Ask) -> Outcome:
        await stub.DeleteObject(pb.DeleteObjectRequest(namespace=ask.space, bucket=ask.bucket, key=ask.key))
        return Outcome()

    async def _list(self, stub: stubs.ObjectStoreServiceStub, ask: Ask) -> Outcome:
        message = pb.ListObjectsRequest(
            namespace=ask.space,
            bucket=ask.bucket,
            prefix=ask.prefix,
            max_results=ask.limit,
            continuation_token=ask.token,
        )
        answer = await stub.ListObjects(message)
        return Outcome(keys=tuple(o.key for o in answer.objects), token=answer.continuation_token)


def _reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    assert status is not None, error
    detail = error_details_pb2.ErrorInfo()
    assert any(found.Unpack(detail) for found in status.details), error
    assert detail.metadata["request_id"]
    assert STATUS[ErrorCode(detail.reason)].grpc is error.code()
    return detail.reason


class HttpApi(Api):
    """Over plain HTTP requests whose target is sent as it is."""

    async def ask(self, ask: Ask) -> Outcome:
        return await asyncio.to_thread(self._ask, ask)

    def _ask(self, ask: Ask) -> Outcome:
        path = f"/v1/namespaces/{quote(ask.space, safe='')}/objects"
        query = {"bucket": ask.bucket} if ask.bucket else {}
        if ask.verb == "list":
            named = {"prefix": ask.prefix, "token": ask.token, "max_results": ask.limit}
            query |= {name: value for name, value in named.items() if value not in ("", None)}
        else:
            path += f"/{quote(ask.key, safe='/')}"
        headers = {f"Prism-Meta-{name}": value for name, value in ask.metadata.items()}
        named = {"Prism-Checksum-CRC32C": ask.crc32c, "Prism-Checksum-SHA256": ask.sha256, **_conditions(ask)}
        headers |= {name: value for name, value in named.items() if value}
        method = "GET" if ask.verb == "list" else ask.verb.upper()
        target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        answer, body = _exchange(self.running.http, method, target, headers, ask.body)
        if answer.status >= 400:
            assert answer.getheader("x-request-id")
            code = json.loads(body)["error"]["code"] if body else _by_status(answer.status, "http")
            assert STATUS[ErrorCode(code)].http == answer.status
            return Outcome(code=code)
        if ask.verb == "list":
            found = json.loads(body)
            return Outcome(keys=tuple(o["key"] for o in found["objects"]), token=found.get("next_token") or "")
        return Outcome(body=body, metadata=_metadata(answer, "prism-meta-"))


class S3Api(Api):
    """Over requests that botocore signs."""

    async def ask(self, ask: Ask) -> Outcome:
        return await asyncio.to_thread(self._ask, ask)

    def _ask(self, ask: Ask) -> Outcome:
        query = {}
        path = f"/{ask.bucket}"
        if ask.verb == "list":
            query = {"list-type": "2", "prefix": ask.prefix, "encoding-type": "url"}
            query |= {"continuation-token": ask.token} if ask.token else {}
            query |= {} if ask.limit is None else {"max-keys": str(ask.limit)}
        else:
            path += f"/{quote(ask.key, safe='/~')}"
        headers = {f"x-amz-meta-{name}": value for name, value in ask.metadata.items()}
        sha256 = base64.b64encode(bytes.fromhex(ask.sha256)).decode() if _is_hex(ask.sha256) else ask.sha256
        named = {"x-amz-checksum-crc32c": ask.crc32c, "x-amz-checksum-sha256": sha256, **_conditions(ask)}
        headers |= {name: value for name, value in named.items() if value}
        method = "GET" if ask.verb == "list" else ask.verb.upper()
        target = f"{path}?{urlencode(query, quote_via=quote)}" if query else path
        request = AWSRequest(method, self.running.s3 + target, headers=headers, data=ask.body)
        request.context["payload_signing_enabled"] = True
        secret = f"prism-local-{ask.space}"
        S3SigV4Auth(Credentials(ask.space, secret), "s3", "us-east-1").add_auth(request)
        answer, body = _exchange(self.running.s3, method, target, dict(request.headers.items()), ask.body)
        if answer.status >= 400:
            code = (ElementTree.fromstring(body).findtext("Code") or "") if body else ""
            code = code or _by_status(answer.status, "s3_http")
            return Outcome(code=code)
        if ask.verb == "list":
            return self._listed(body)
        return Outcome(body=body, metadata=_metadata(answer, "x-amz-meta-"))

    def _listed(self, body: bytes) -> Outcome:
        from urllib.parse import unquote

        tree = ElementTree.fromstring(re.sub(rb' xmlns="[^"]+"', b"", body))
        keys = tuple(unquote(found.text or "", errors="strict") for found in tree.iterfind("Contents/Key"))
        return Outcome(keys=keys, token=tree.findtext("NextContinuationToken") or "")


def _is_hex(text: str) -> bool:
    return bool(text) and re.fullmatch("[0-9a-f]*", text) is not None and len(text) % 2 == 0


def _conditions(ask: Ask) -> dict[str, str]:
    start, end = ask.range or (None, None)
    return {
        "If-Match": ask.if_match if ask.if_match in ("", "*") else f'"{ask.if_match}"',
        "If-None-Match": ask.if_none_match if ask.if_none_match in ("", "*") else f'"{ask.if_none_match}"',
        "Range": "" if start is None else f"bytes={start}-{'' if end is None else end}",
    }


def _by_status(status: int, table: str) -> str:
    """For answers without a body (HEAD): the code of this status that reads of one object can have."""
    asked = [ErrorCode.OBJECT_NOT_FOUND, ErrorCode.INVALID_ARGUMENT, ErrorCode.PERMISSION_DENIED]
    found = next(code for code in asked if getattr(STATUS[code], table) == status)
    return STATUS[found].s3 if table == "s3_http" else str(found)


def _exchange(
    base: str, method: str, target: str, headers: dict[str, str], body: bytes
) -> tuple[http.client.HTTPResponse, bytes]:
    where = urlsplit(base)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in {"Host": where.netloc, "Content-Length": str(len(body)), **headers}.items():
            connection.putheader(name, value.encode("latin-1"))
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def _metadata(answer: http.client.HTTPResponse, prefix: str) -> dict[str, str]:
    found = {name.lower(): value for name, value in answer.getheaders()}
    return {name[len(prefix) :]: value for name, value in found.items() if name.startswith(prefix)}


def sha256_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
