"""The contract of ObjectStoreService and NamespaceService, line by line, over real services in memory."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import FieldDescriptor
from grpc_support import OBJECTS, RawCall, info_of, until
from prism_sdk.stubs.prism.objectstore import namespaces_pb2 as spaces
from prism_sdk.stubs.prism.objectstore import namespaces_pb2_grpc as spaces_grpc
from prism_sdk.stubs.prism.objectstore import object_store_pb2 as pb
from prism_sdk.stubs.prism.objectstore import object_store_pb2_grpc as pb_grpc

from prism.testing.clocks import StillClock
from prism.testing.running import Running, running_app

NS = "user-uploads"
Code = grpc.StatusCode


class Client:
    """The stubs, with short forms for what the tests say often."""

    def __init__(self, channel: Any, running: Running) -> None:
        self.running = running
        self.objects = pb_grpc.ObjectStoreServiceStub(channel)
        self.spaces = spaces_grpc.NamespaceServiceStub(channel)

    async def put(self, key: str, *chunks: bytes, **header: Any) -> pb.PutObjectResponse:
        first = pb.PutObjectRequest(
            namespace=header.pop("namespace", NS), key=key, chunk=chunks[0] if chunks else b"", **header
        )
        return await self.stream([first, *(pb.PutObjectRequest(chunk=chunk) for chunk in chunks[1:])])

    async def stream(self, messages: Iterable[pb.PutObjectRequest]) -> pb.PutObjectResponse:
        answer: pb.PutObjectResponse = await self.objects.PutObject(iter(list(messages)))
        return answer

    async def get(self, key: str, **fields: Any) -> list[pb.GetObjectResponse]:
        call = self.objects.GetObject(pb.GetObjectRequest(namespace=fields.pop("namespace", NS), key=key, **fields))
        return [message async for message in call]

    async def read(self, key: str, **fields: Any) -> bytes:
        return b"".join(message.chunk for message in await self.get(key, **fields))

    async def head(self, key: str, **fields: Any) -> pb.HeadObjectResponse:
        return await self.objects.HeadObject(pb.HeadObjectRequest(**{"namespace": NS, "key": key, **fields}))  # type: ignore[no-any-return]

    async def list(self, **fields: Any) -> pb.ListObjectsResponse:
        return await self.objects.ListObjects(pb.ListObjectsRequest(**{"namespace": NS, **fields}))  # type: ignore[no-any-return]

    async def presign(self, key: str, method: str, seconds: int = 0, **fields: Any) -> pb.PresignedURLResponse:
        request = pb.PresignedURLRequest(namespace=NS, key=key, method=method, expires_in_seconds=seconds, **fields)
        return await self.objects.GetPresignedURL(request)  # type: ignore[no-any-return]

    async def copy(self, source: str, destination: str, **fields: Any) -> pb.CopyObjectResponse:
        named = {"source_namespace": NS, "source_key": source, "destination_namespace": NS}
        request = pb.CopyObjectRequest(**{**named, "destination_key": destination, **fields})
        return await self.objects.CopyObject(request)  # type: ignore[no-any-return]


@pytest.fixture
def clock() -> StillClock:
    return StillClock()


@pytest.fixture
async def client(clock: StillClock) -> AsyncIterator[Client]:
    async with (
        running_app(now=clock, roles=frozenset({"api"})) as running,
        grpc.aio.insecure_channel(running.grpc) as channel,
    ):
        yield Client(channel, running)


async def refused(call: Awaitable[object], code: Any, reason: str = "") -> grpc.aio.AioRpcError:
    """Await an error of this code, whose ErrorInfo has this reason and a request id."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    info = info_of(failed.value)
    assert (failed.value.code(), info.reason) == (code, reason or code.name)
    assert info.domain == "prism"
    assert info.metadata["request_id"]
    return failed.value


def test_messages_have_the_published_numbers() -> None:
    published = {
        "PutObjectRequest": "namespace bucket key metadata content_type ttl_seconds chunk",
        "PutObjectResponse": "object_id etag size_bytes version_id",
        "GetObjectRequest": "namespace bucket key range_start range_end",
        "GetObjectResponse": "content_type size_bytes metadata etag chunk",
        "DeleteObjectRequest": "namespace bucket key",
        "DeleteObjectResponse": "deleted",
        "ListObjectsRequest": "namespace bucket prefix max_results continuation_token",
        "ListObjectsResponse": "objects continuation_token is_truncated",
        "ObjectMetadata": "key size_bytes etag last_modified content_type",
        "HeadObjectRequest": "namespace bucket key",
        "HeadObjectResponse": "content_type size_bytes metadata etag last_modified expires_at version_id",
        "PresignedURLRequest": "namespace bucket key method expires_in_seconds",
        "PresignedURLResponse": "url expires_at",
        "CopyObjectRequest": "source_namespace source_bucket source_key destination_namespace destination_bucket "
        "destination_key ttl_seconds",
        "CopyObjectResponse": "object_id etag size_bytes version_id",
    }
    wide = {
        "size_bytes",
        "ttl_seconds",
        "range_start",
        "range_end",
        "last_modified",
        "expires_at",
        "expires_in_seconds",
    }
    for name, fields in published.items():
        by_number = pb.DESCRIPTOR.message_types_by_name[name].fields_by_number
        assert [by_number[n].name for n in range(1, len(fields.split()) + 1)] == fields.split()
        for number, field in by_number.items():
            assert number <= len(fields.split()) or number >= 20
            assert field.name not in wide or field.type == FieldDescriptor.TYPE_INT64
    assert [method.name for method in pb.DESCRIPTOR.services_by_name["ObjectStoreService"].methods] == [
        "PutObject", "GetObject", "DeleteObject", "ListObjects", "HeadObject", "GetPresignedURL", "CopyObject",
    ]  # fmt: skip


class TestPut:
    async def test_what_is_put_is_told_and_found(self, client: Client, clock: StillClock) -> None:
        answer = await client.put(
            "a/b.txt", b"Hello, ", b"", b"world", content_type="text/plain", metadata={"who": "me"}, ttl_seconds=60
        )
        assert (answer.object_id, answer.size_bytes, answer.version_id) == (f"{NS}/prism-objects/a/b.txt", 12, "")
        assert answer.etag
        found = await client.head("a/b.txt")
        assert (found.content_type, found.size_bytes, dict(found.metadata)) == ("text/plain", 12, {"who": "me"})
        assert (found.etag, found.last_modified) == (answer.etag, int(clock.at.timestamp()))
        assert found.expires_at == int(clock.at.timestamp()) + 60
        clock.at += timedelta(seconds=60)
        await refused(client.head("a/b.txt"), Code.NOT_FOUND, "OBJECT_NOT_FOUND")

    async def test_an_empty_first_message_alone_is_an_empty_object(self, client: Client) -> None:
        assert (await client.put("empty")).size_bytes == 0
        (only,) = await client.get("empty")
        assert (only.size_bytes, only.chunk, bool(only.etag)) == (0, b"", True)

    async def test_a_stream_without_a_message_is_refused(self, client: Client) -> None:
        await refused(client.stream([]), Code.INVALID_ARGUMENT)

    async def test_a_header_may_be_repeated_but_not_changed(self, client: Client) -> None:
        said: dict[str, Any] = {
            "namespace": NS, "key": "k", "metadata": {"a": "1"}, "content_type": "text/plain", "ttl_seconds": 5,
        }  # fmt: skip
        first = pb.PutObjectRequest(**said, chunk=b"one")
        for repeated in (said, {"namespace": NS, "key": "k"}, {}):
            await client.stream([first, pb.PutObjectRequest(**repeated, chunk=b"two")])
            assert await client.read("k") == b"onetwo"
        for change in (
            {"key": "l"},
            {"metadata": {"a": "2"}},
            {"ttl_seconds": 0},
            {"no_expiration": True},
            {"bucket": "x"},
        ):
            changed = pb.PutObjectRequest(**{**said, **change}, chunk=b"three")
            await refused(client.stream([first, changed]), Code.INVALID_ARGUMENT)
        assert await client.read("k") == b"onetwo"

    async def test_declared_facts_are_checked(self, client: Client) -> None:
        crc = (await client.put("good", b"123456789", checksum_crc32c="4waSgw==", size_bytes=9)).checksum_crc32c
        assert crc == "4waSgw=="
        await refused(client.put("bad", b"12", size_bytes=3), Code.INVALID_ARGUMENT, "SIZE_MISMATCH")
        await refused(client.put("bad", b"1", checksum_crc32c="4waSgw=="), Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")
        await refused(client.put("bad", b"1", checksum_sha256="00" * 32), Code.INVALID_ARGUMENT, "CHECKSUM_MISMATCH")
        await refused(client.head("bad"), Code.NOT_FOUND, "OBJECT_NOT_FOUND")

    async def test_a_clean_end_within_a_message_is_caught_by_a_declared_size(self, client: Client) -> None:
        # gRPC drops such a message without a word, so only a declaration can tell that bytes are missing.
        header = pb.PutObjectRequest(namespace=NS, key="short", chunk=b"12", size_bytes=1002)
        call = await RawCall.begin(client.running.grpc, f"{OBJECTS}PutObject")
        call.message(header.SerializeToString())
        call.message(b"cut short", announced=1000, end=True)
        await call.flush()
        await until(lambda: "SIZE_MISMATCH" in [record.outcome for record in client.running.audit.records])
        call.close()
        await refused(client.head("short"), Code.NOT_FOUND, "OBJECT_NOT_FOUND")

    async def test_preconditions_are_judged(self, client: Client) -> None:
        first = await client.put("k", b"1", if_none_match=["*"])
        await refused(client.put("k", b"2", if_none_match=["*"]), Code.FAILED_PRECONDITION, "PRECONDITION_FAILED")
        await client.put("k", b"3", if_match=[first.etag])
        await refused(client.put("k", b"4", if_match=[first.etag]), Code.FAILED_PRECONDITION, "PRECONDITION_FAILED")
        assert await client.read("k") == b"3"

    @pytest.mark.parametrize("seconds", [0, -1, 2**62, -(2**63)])
    async def test_a_ttl_out_of_range_is_refused(self, client: Client, seconds: int) -> None:
        await refused(client.put("k", b"", ttl_seconds=seconds), Code.INVALID_ARGUMENT)

    async def test_no_expiry_needs_the_namespaces_consent(self, client: Client) -> None:
        await refused(client.put("k", b"", no_expiration=True), Code.INVALID_ARGUMENT)
        kept = await client.put("k", b"", namespace="matyan-artifacts", no_expiration=True)
        assert not kept.HasField("expires_at")

    async def test_unknown_names_are_not_found(self, client: Client) -> None:
        await refused(client.put("k", b"", namespace="nowhere"), Code.NOT_FOUND, "NAMESPACE_NOT_FOUND")
        await refused(client.put("k", b"", bucket="nowhere"), Code.NOT_FOUND, "BUCKET_NOT_FOUND")


class TestGet:
    @pytest.fixture
    async def ten(self, client: Client) -> Client:
        await client.put("ten", b"0123456789", content_type="text/plain", metadata={"a": "b"})
        return client

    @pytest.mark.parametrize(
        ("asked", "served"),
        [
            ({}, b"0123456789"),
            ({"range_start": 0}, b"0123456789"),
            ({"range_start": 0, "range_end": 0}, b"0"),
            ({"range_start": 3, "range_end": 5}, b"345"),
            ({"range_start": 9}, b"9"),
            ({"range_start": 8, "range_end": 2**62}, b"89"),
        ],
        ids=str,
    )
    async def test_ranges_are_inclusive_and_clamped(self, ten: Client, asked: dict[str, int], served: bytes) -> None:
        messages = await ten.get("ten", **asked)
        assert b"".join(message.chunk for message in messages) == served
        first = messages[0]
        assert (first.size_bytes, first.content_type, dict(first.metadata)) == (10, "text/plain", {"a": "b"})
        assert first.etag == (await ten.head("ten")).etag

    async def test_a_range_that_is_none_is_refused(self, ten: Client) -> None:
        await refused(ten.get("ten", range_end=5), Code.INVALID_ARGUMENT)
        await refused(ten.get("ten", range_start=5, range_end=4), Code.INVALID_ARGUMENT)
        await refused(ten.get("ten", range_start=-1), Code.INVALID_ARGUMENT)
        error = await refused(ten.get("ten", range_start=10), Code.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE")
        assert info_of(error).metadata["size_bytes"] == "10"
        await ten.put("empty")
        await refused(ten.get("empty", range_start=0), Code.OUT_OF_RANGE, "RANGE_NOT_SATISFIABLE")

    async def test_chunks_have_at_most_one_mebibyte(self, client: Client) -> None:
        content = bytes(range(256)) * (5 << 12) + b"tail"
        await client.put("large", content[: 4 << 20], content[4 << 20 :])
        messages = await client.get("large")
        assert b"".join(message.chunk for message in messages) == content
        assert max(len(message.chunk) for message in messages) <= 1 << 20
        assert [bool(message.etag) for message in messages] == [True] + [False] * (len(messages) - 1)

    async def test_absent_and_changed_objects_are_told(self, ten: Client) -> None:
        await refused(ten.get("absent"), Code.NOT_FOUND, "OBJECT_NOT_FOUND")
        await refused(ten.get("ten", if_match=["other"]), Code.FAILED_PRECONDITION, "PRECONDITION_FAILED")


class TestDelete:
    async def test_deleting_twice_succeeds_and_says_so(self, client: Client) -> None:
        await client.put("k", b"1")
        request = pb.DeleteObjectRequest(namespace=NS, key="k")
        assert (await client.objects.DeleteObject(request)).deleted is True
        assert (await client.objects.DeleteObject(request)).deleted is False
        await refused(client.get("k"), Code.NOT_FOUND, "OBJECT_NOT_FOUND")

    async def test_a_folder_goes_at_once(self, client: Client) -> None:
        for key in ("a/1", "a/b/2", "ab"):
            await client.put(key, b"x")
        await client.spaces.DeletePrefix(spaces.DeletePrefixRequest(namespace=NS, prefix="a/"))
        assert [found.key for found in (await client.list()).objects] == ["ab"]
        bad = client.spaces.DeletePrefix(spaces.DeletePrefixRequest(namespace=NS, prefix="a"))
        await refused(bad, Code.INVALID_ARGUMENT)


class TestList:
    async def test_pages_hold_every_key_once_in_byte_order(self, client: Client) -> None:
        keys = ["Z", "a", "a/b", "b", "é", "\U0001f600"]
        for key in reversed(keys):
            await client.put(key, b"x", content_type="text/x")
        seen, token = [], ""
        while True:
            page = await client.list(max_results=2, continuation_token=token)
            seen += page.objects
            token = page.continuation_token
            assert page.is_truncated == bool(token)
            if not token:
                break
        assert [found.key for found in seen] == keys
        assert {(found.size_bytes, found.content_type) for found in seen} == {(1, "text/x")}
        assert seen[0].etag == (await client.head("Z")).etag

    async def test_the_size_of_a_page_is_clamped(self, client: Client) -> None:
        await client.put("k", b"")
        for size in (0, 1, 1000, 2**31 - 1):
            assert len((await client.list(max_results=size)).objects) == 1
        await refused(client.list(max_results=-1), Code.INVALID_ARGUMENT)

    async def test_a_token_is_good_for_its_own_list_only(self, client: Client) -> None:
        for key in ("p1", "p2", "p3"):
            await client.put(key, b"")
        token = (await client.list(prefix="p", max_results=1)).continuation_token
        assert [o.key for o in (await client.list(prefix="p", continuation_token=token)).objects] == ["p2", "p3"]
        for other in (
            {"prefix": ""},
            {"prefix": "p", "namespace": "build-artifacts"},
            {"prefix": "p", "continuation_token": token[:-2] + "AA"},
            {"prefix": "p", "continuation_token": "nonsense"},
        ):
            await refused(client.list(**{"continuation_token": token, **other}), Code.INVALID_ARGUMENT)

    async def test_a_delimiter_folds(self, client: Client) -> None:
        for key in ("a/1", "a/2", "b", "c/3"):
            await client.put(key, b"")
        page = await client.list(delimiter="/")
        assert ([found.key for found in page.objects], list(page.common_prefixes)) == (["b"], ["a/", "c/"])
        assert [found.key for found in (await client.list(start_after="a/2")).objects] == ["b", "c/3"]


class TestPresign:
    @pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
    @pytest.mark.parametrize(("asked", "lasts"), [(0, 3600), (1, 1), (3600, 3600)])
    async def test_a_url_lasts_as_asked(
        self, client: Client, clock: StillClock, method: str, asked: int, lasts: int
    ) -> None:
        await client.put("k", b"")
        made = await client.presign("k", method, asked)
        assert made.url.startswith("http")
        assert made.expires_at == int(clock.at.timestamp()) + lasts

    @pytest.mark.parametrize("seconds", [-1, 3601, 2**62, -(2**62)])
    async def test_other_times_are_refused(self, client: Client, seconds: int) -> None:
        await refused(client.presign("k", "PUT", seconds), Code.INVALID_ARGUMENT)

    async def test_other_methods_and_absent_objects_are_refused(self, client: Client) -> None:
        for method in ("", "get", "POST", "HEAD"):
            await refused(client.presign("k", method), Code.INVALID_ARGUMENT)
        await refused(client.presign("absent", "GET"), Code.NOT_FOUND, "OBJECT_NOT_FOUND")

    async def test_a_bound_type_must_be_sent(self, client: Client) -> None:
        made = await client.presign("k", "PUT", content_type="image/png")
        assert dict(made.headers) == {"content-type": "image/png"}
        assert dict((await client.presign("k", "PUT")).headers) == {}


class TestCopy:
    async def test_a_copy_keeps_content_and_takes_its_own_ttl(self, client: Client, clock: StillClock) -> None:
        put = await client.put("from", b"content", content_type="text/x", metadata={"a": "b"}, ttl_seconds=10)
        same = await client.copy("from", "to", ttl_seconds=99)
        assert (same.etag, same.size_bytes, same.object_id) == (put.etag, 7, f"{NS}/prism-objects/to")
        found = await client.head("to")
        assert (found.content_type, dict(found.metadata)) == ("text/x", {"a": "b"})
        assert found.expires_at == int(clock.at.timestamp()) + 99
        await client.copy("from", "far", destination_namespace="build-artifacts")
        assert await client.read("far", namespace="build-artifacts") == b"content"

    async def test_a_copy_has_conditions(self, client: Client) -> None:
        await client.put("from", b"1")
        await refused(client.copy("absent", "to"), Code.NOT_FOUND, "OBJECT_NOT_FOUND")
        changed = client.copy("from", "to", source_if_match=["other"])
        await refused(changed, Code.FAILED_PRECONDITION, "PRECONDITION_FAILED")
        await client.copy("from", "to", if_none_match=["*"])
        again = client.copy("from", "to", if_none_match=["*"])
        await refused(again, Code.FAILED_PRECONDITION, "PRECONDITION_FAILED")


class TestNamespace:
    async def test_what_expires_soon_comes_first(self, client: Client) -> None:
        for key, ttl in (("late", 7200), ("soon", 60), ("never-mind", 90_000)):
            await client.put(key, b"x", ttl_seconds=ttl)
        request = spaces.ListExpiringRequest(namespace=NS, within_seconds=86_400, max_results=1)
        seen = []
        while True:
            page = await client.spaces.ListExpiring(request)
            seen += [found.key for found in page.objects]
            if not page.continuation_token:
                break
            request.continuation_token = page.continuation_token
        assert seen == ["soon", "late"]
        negative = client.spaces.ListExpiring(spaces.ListExpiringRequest(namespace=NS, within_seconds=-1))
        await refused(negative, Code.INVALID_ARGUMENT)

    async def test_usage_counts(self, client: Client) -> None:
        await client.put("k", b"12345")
        held = await client.spaces.GetUsage(spaces.GetUsageRequest(namespace=NS))
        assert (held.objects, held.size_bytes) == (1, 5)


HOSTILE = (
    "../../etc/passwd", "/abs", "a//b", "a/", "%2e%2e/x", "#?%+&=", " sp ace ", "\u00e9", "e\u0301", "\\..\\",
    "a\r\nb", "k" * 1024, "\U0001f600" * 256,
)  # fmt: skip


@pytest.mark.parametrize("key", HOSTILE, ids=ascii)
async def test_a_hostile_name_is_kept_exactly_or_refused(client: Client, key: str) -> None:
    await client.put("beside", b"untouched")
    code = Code.OK
    try:
        await client.put(key, b"mine")
    except grpc.aio.AioRpcError as error:
        code = error.code()
    kept = [key] if code is Code.OK else []
    assert code in {Code.OK, Code.INVALID_ARGUMENT}
    assert sorted(found.key for found in (await client.list()).objects) == sorted(["beside", *kept])
    for name in kept:
        assert await client.read(name) == b"mine"
    assert await client.read("beside") == b"untouched"


@pytest.mark.parametrize("key", ["", "k" * 1025, "a\x00b"], ids=["empty", "long", "NUL"])
async def test_an_impossible_name_is_refused(client: Client, key: str) -> None:
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: client.put(key, b"x"),
        lambda: client.get(key),
        lambda: client.head(key),
        lambda: client.presign(key, "PUT"),
        lambda: client.copy(key, "k"),
    ]
    codes = set()
    for attempt in attempts:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await attempt()
        codes.add(failed.value.code())
    assert codes in ({Code.INVALID_ARGUMENT}, {Code.NOT_FOUND, Code.INVALID_ARGUMENT})


async def test_every_rpc_passes_the_decision_and_leaves_a_record(client: Client) -> None:
    methods = [
        (stub, method)
        for stub, module, service in (
            (client.objects, pb, "ObjectStoreService"),
            (client.spaces, spaces, "NamespaceService"),
        )
        for method in module.DESCRIPTOR.services_by_name[service].methods
    ]
    assert len(methods) == 10
    for stub, method in methods:
        request = getattr(pb if stub is client.objects else spaces, method.input_type.name)()
        if method.name == "GetPresignedURL":
            request.method = "GET"
        before = len(client.running.audit.records)
        call = getattr(stub, method.name)
        asked = ((iter([request]) if method.name == "PutObject" else request), (("x-request-id", method.name),))
        answer = call(asked[0], metadata=asked[1])
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await (answer.read() if method.name == "GetObject" else answer)
        assert failed.value.code() is Code.NOT_FOUND
        record = client.running.audit.records[before]
        assert (record.api, record.request_id, record.outcome) == ("grpc", method.name, "NAMESPACE_NOT_FOUND")
