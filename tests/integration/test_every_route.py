"""Every way into Prism asks the one decision function: all routes, RPCs and S3 operations there are, each one tried.

The lists come from the servers' own tables and descriptors. With a policy that lets nobody do anything each answers
with a refusal and leaves a record of it; a new route fails the test until it has a row here.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from http_support import Served, configured, listening, served
from prism_sdk.stubs.prism.objectstore import namespaces_pb2, object_store_pb2, uploads_pb2

from prism.access import Policy
from prism.model import Action, ObjectRef
from prism.server.grpc import start_grpc
from prism.server.grpc_health import REFLECTION_SERVICES
from prism.server.http import http_router
from prism.server.s3 import s3_app
from prism.server.s3_routing import COPIES, OPERATIONS
from prism.tickets import UploadName

UPLOAD = UploadName(ObjectRef("things", "things", "k"), "a" * 26)
NOBODY = Policy(namespaces=frozenset(), open=False)

HTTP: dict[tuple[str, str], list[tuple[str, dict[str, Any]]]] = {
    # route: the action, and a request that reaches it
    ("GET", "/"): [(Action.READ_UI, {})],
    ("GET", "/docs"): [(Action.READ_DOCS, {})],
    ("GET", "/openapi.json"): [(Action.READ_DOCS, {})],
    ("GET", "/healthz"): [(Action.READ_HEALTH, {})],
    ("GET", "/readyz"): [(Action.READ_HEALTH, {})],
    ("GET", "/metrics"): [(Action.READ_METRICS, {})],
    ("GET", "/v1/namespaces"): [(Action.LIST_NAMESPACES, {})],
    ("PUT", "/v1/namespaces/{namespace}/objects/{key}"): [(Action.PUT, {"content": b"1"})],
    ("GET", "/v1/namespaces/{namespace}/objects/{key}"): [(Action.GET, {})],
    ("HEAD", "/v1/namespaces/{namespace}/objects/{key}"): [(Action.HEAD, {})],
    ("DELETE", "/v1/namespaces/{namespace}/objects/{key}"): [(Action.DELETE, {})],
    ("GET", "/v1/namespaces/{namespace}/objects"): [(Action.LIST, {})],
    ("DELETE", "/v1/namespaces/{namespace}/objects"): [(Action.DELETE_PREFIX, {"params": {"prefix": "a/"}})],
    ("POST", "/v1/namespaces/{namespace}/copy"): [
        (Action.PUT, {"json": {"source_key": "a", "destination_key": "b"}}),
    ],
    ("POST", "/v1/namespaces/{namespace}/presign"): [
        (Action.PRESIGN_GET, {"json": {"key": "a"}}),
        (Action.PRESIGN_PUT, {"json": {"key": "a", "method": "PUT"}}),
        (Action.PRESIGN_DELETE, {"json": {"key": "a", "method": "DELETE"}}),
    ],
    ("GET", "/v1/namespaces/{namespace}/expiring"): [(Action.LIST_EXPIRING, {"params": {"within": "7d"}})],
    ("GET", "/v1/namespaces/{namespace}/usage"): [(Action.USAGE, {})],
    ("GET", "/v1/namespaces/{namespace}/buckets"): [(Action.LIST_BUCKETS, {})],
    ("POST", "/v1/uploads"): [(Action.CREATE_UPLOAD, {"json": {"namespace": "things", "key": "k"}})],
    ("GET", "/v1/uploads/{upload_id}"): [(Action.READ_UPLOAD, {})],
    ("POST", "/v1/uploads/{upload_id}/parts"): [(Action.SIGN_PARTS, {"json": {"numbers": [1]}})],
    ("POST", "/v1/uploads/{upload_id}/complete"): [(Action.COMPLETE_UPLOAD, {})],
    ("DELETE", "/v1/uploads/{upload_id}"): [(Action.ABORT_UPLOAD, {})],
    ("HEAD", "/v1/namespaces/{namespace}/buckets/{bucket}"): [(Action.HEAD_BUCKET, {})],
    ("PUT", "/v1/namespaces/{namespace}/buckets/{bucket}"): [(Action.CREATE_BUCKET, {})],
    ("DELETE", "/v1/namespaces/{namespace}/buckets/{bucket}"): [(Action.DELETE_BUCKET, {})],
}
_OBJECT = {"namespace": "things", "key": "k"}
_COPY = {"source_namespace": "things", "source_key": "a", "destination_namespace": "things", "destination_key": "b"}
GRPC: dict[str, tuple[Any, Action]] = {
    "prism.objectstore.ObjectStoreService/PutObject": (object_store_pb2.PutObjectRequest(**_OBJECT), Action.PUT),
    "prism.objectstore.ObjectStoreService/GetObject": (object_store_pb2.GetObjectRequest(**_OBJECT), Action.GET),
    "prism.objectstore.ObjectStoreService/DeleteObject": (
        object_store_pb2.DeleteObjectRequest(**_OBJECT),
        Action.DELETE,
    ),
    "prism.objectstore.ObjectStoreService/ListObjects": (
        object_store_pb2.ListObjectsRequest(namespace="things"),
        Action.LIST,
    ),
    "prism.objectstore.ObjectStoreService/HeadObject": (object_store_pb2.HeadObjectRequest(**_OBJECT), Action.HEAD),
    "prism.objectstore.ObjectStoreService/GetPresignedURL": (
        object_store_pb2.PresignedURLRequest(**_OBJECT, method="PUT"),
        Action.PRESIGN_PUT,
    ),
    "prism.objectstore.ObjectStoreService/CopyObject": (object_store_pb2.CopyObjectRequest(**_COPY), Action.PUT),
    "prism.objectstore.NamespaceService/DeletePrefix": (
        namespaces_pb2.DeletePrefixRequest(namespace="things", prefix="a/"),
        Action.DELETE_PREFIX,
    ),
    "prism.objectstore.NamespaceService/ListExpiring": (
        namespaces_pb2.ListExpiringRequest(namespace="things", within_seconds=60),
        Action.LIST_EXPIRING,
    ),
    "prism.objectstore.NamespaceService/GetUsage": (namespaces_pb2.GetUsageRequest(namespace="things"), Action.USAGE),
    "prism.objectstore.UploadService/CreateUpload": (uploads_pb2.CreateUploadRequest(**_OBJECT), Action.CREATE_UPLOAD),
    "prism.objectstore.UploadService/GetUpload": (
        uploads_pb2.GetUploadRequest(upload_id=UPLOAD.upload_id),
        Action.READ_UPLOAD,
    ),
    "prism.objectstore.UploadService/SignParts": (
        uploads_pb2.SignPartsRequest(upload_id=UPLOAD.upload_id, numbers=[1]),
        Action.SIGN_PARTS,
    ),
    "prism.objectstore.UploadService/CompleteUpload": (
        uploads_pb2.CompleteUploadRequest(upload_id=UPLOAD.upload_id),
        Action.COMPLETE_UPLOAD,
    ),
    "prism.objectstore.UploadService/AbortUpload": (
        uploads_pb2.AbortUploadRequest(upload_id=UPLOAD.upload_id),
        Action.ABORT_UPLOAD,
    ),
    "grpc.health.v1.Health/Check": (health_pb2.HealthCheckRequest(), Action.READ_HEALTH),
    "grpc.health.v1.Health/Watch": (health_pb2.HealthCheckRequest(), Action.READ_HEALTH),
} | {
    f"{name}/ServerReflectionInfo": (reflection_pb2.ServerReflectionRequest(list_services=""), Action.READ_DOCS)
    for name in REFLECTION_SERVICES
}
_PARTS = b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
_AT = f"/things/k?uploadId={UPLOAD.version_id}"
_DELETE = b"<Delete><Object><Key>k</Key></Object></Delete>"
S3: dict[str, tuple[str, str, bytes, dict[str, str], Action]] = {
    # operation: method, target, body, headers
    "ListBuckets": ("GET", "/", b"", {}, Action.LIST_BUCKETS),
    "ListObjects": ("GET", "/things", b"", {}, Action.LIST),
    "ListObjectsV2": ("GET", "/things?list-type=2", b"", {}, Action.LIST),
    "GetBucketLocation": ("GET", "/things?location=", b"", {}, Action.HEAD_BUCKET),
    "HeadBucket": ("HEAD", "/things", b"", {}, Action.HEAD_BUCKET),
    "CreateBucket": ("PUT", "/another", b"", {}, Action.CREATE_BUCKET),
    "DeleteBucket": ("DELETE", "/another", b"", {}, Action.DELETE_BUCKET),
    "DeleteObjects": ("POST", "/things?delete=", _DELETE, {}, Action.DELETE),
    "GetObject": ("GET", "/things/k", b"", {}, Action.GET),
    "HeadObject": ("HEAD", "/things/k", b"", {}, Action.HEAD),
    "PutObject": ("PUT", "/things/k", b"1", {}, Action.PUT),
    "DeleteObject": ("DELETE", "/things/k", b"", {}, Action.DELETE),
    "CopyObject": ("PUT", "/things/k", b"", {"x-amz-copy-source": "things/a"}, Action.PUT),
    "CreateMultipartUpload": ("POST", "/things/k?uploads=", b"", {}, Action.CREATE_UPLOAD),
    "UploadPart": ("PUT", f"{_AT}&partNumber=1", b"1", {}, Action.PUT_PART),
    "UploadPartCopy": ("PUT", f"{_AT}&partNumber=1", b"", {"x-amz-copy-source": "things/a"}, Action.PUT_PART),
    "ListParts": ("GET", _AT, b"", {}, Action.READ_UPLOAD),
    "CompleteMultipartUpload": ("POST", _AT, _PARTS, {}, Action.COMPLETE_UPLOAD),
    "AbortMultipartUpload": ("DELETE", _AT, b"", {}, Action.ABORT_UPLOAD),
    "ListMultipartUploads": ("GET", "/things?uploads=", b"", {}, Action.LIST_UPLOADS),
}


@pytest.fixture
async def prism(tmp_path: Path) -> AsyncIterator[Served]:
    """A world in which nobody may do anything."""
    async with served(configured(tmp_path), NOBODY) as world:
        world.clock.at = datetime.now(UTC)
        yield world


def refused(prism: Served, action: Action) -> str:
    """The outcome of the one record that was left, which is a refusal of `action`."""
    (record,) = prism.audit.records
    assert (record.action, set(record.detail or {})) == (action, {"denied"})
    prism.audit.records.clear()
    return record.outcome


def test_every_http_route_has_a_row() -> None:
    routes = {(route.method, route.path): set(route.actions) for route in http_router().routes}
    assert set(HTTP) == set(routes)
    for row, actions in routes.items():
        tried = {action for action, _ in HTTP[row]}
        assert tried <= actions
        assert actions - tried <= {Action.COPY_SOURCE}, "every action of a route is tried"


@pytest.mark.parametrize(("method", "path"), list(HTTP), ids=[" ".join(row) for row in HTTP])
async def test_http_asks_before_it_does_anything(prism: Served, method: str, path: str) -> None:
    target = path.format(namespace="things", key="k", bucket="another", upload_id=UPLOAD.upload_id)
    methods = [method, "HEAD"] if method == "GET" and ("HEAD", path) not in HTTP else [method]
    for sent in methods:
        for action, request in HTTP[method, path]:
            answer = await prism.client.request(sent, target, **request)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="prism"')
            assert refused(prism, action) == "UNAUTHENTICATED"


def test_every_rpc_has_a_row() -> None:
    described = {
        f"{service.full_name}/{method.name}"
        for file in (object_store_pb2, namespaces_pb2, uploads_pb2, health_pb2)
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    # Beside these there is reflection, and this program serves no method of the health service but those two.
    described -= {"grpc.health.v1.Health/List"}
    assert set(GRPC) == described | {f"{name}/ServerReflectionInfo" for name in REFLECTION_SERVICES}


async def test_grpc_asks_before_it_does_anything(prism: Served) -> None:
    server = await start_grpc(prism.services, "127.0.0.1:0", None)
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            for name, (message, action) in GRPC.items():
                call = channel.stream_stream(f"/{name}")(iter([message.SerializeToString()]))
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await anext(aiter(call))
                assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, name
                assert refused(prism, action) == "UNAUTHENTICATED"
    finally:
        await server.stop(0)


def test_every_s3_operation_has_a_row() -> None:
    assert set(S3) == {operation.name for operation in (*OPERATIONS.values(), *COPIES.values())}


async def test_s3_asks_before_it_does_anything(prism: Served) -> None:
    """A verified key whose namespace the policy does not have hears what it would hear of an absent one."""
    async with listening(s3_app(prism.services), prism.config) as port, httpx.AsyncClient() as client:
        for name, (method, target, body, headers, action) in S3.items():
            request = AWSRequest(method, f"http://127.0.0.1:{port}{target}", dict(headers), body)
            S3SigV4Auth(Credentials("things", "prism-local-things"), "s3", "us-east-1").add_auth(request)
            prepared = request.prepare()
            answer = await client.request(method, prepared.url, headers=dict(prepared.headers), content=body)
            assert answer.status_code == 404, (name, answer.text)
            # A batch asks for its bucket before it asks for each of its keys.
            first = Action.HEAD_BUCKET if name == "DeleteObjects" else action
            assert refused(prism, first) == "NAMESPACE_NOT_FOUND"


async def test_s3_without_a_signature(prism: Served) -> None:
    async with listening(s3_app(prism.services), prism.config) as port, httpx.AsyncClient() as client:
        for _, (method, target, body, headers, action) in S3.items():
            answer = await client.request(method, f"http://127.0.0.1:{port}{target}", headers=headers, content=body)
            assert answer.status_code == 403
            assert refused(prism, action) == "UNAUTHENTICATED"
