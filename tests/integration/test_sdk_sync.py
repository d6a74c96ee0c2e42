"""The synchronous Python client against a real server: the published example, transfers, repeats, errors."""

import contextlib
import io
import os
import re
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from grpc_support import served
from prism_sdk import (
    BucketNotFound,
    ChecksumMismatch,
    DataLoss,
    InvalidArgument,
    NamespaceNotFound,
    NotFound,
    ObjectNotFound,
    PreconditionFailed,
    PrismClient,
    PrismError,
    RangeError,
    SizeMismatch,
    Stalled,
    Timeouts,
    Unavailable,
)
from sdk_support import CuttingProxy, in_thread

from prism.testing.certificate import self_signed
from prism.testing.running import Running, running_app

README = Path(__file__).parents[2] / "sdk" / "python" / "README.md"
LARGE = bytes(range(256)) * (3 << 12) + b"tail"


@contextlib.asynccontextmanager
async def _proxied() -> AsyncIterator[tuple[Running, CuttingProxy]]:
    async with running_app(roles=frozenset({"api", "s3"})) as running, CuttingProxy(running.grpc).running() as proxy:
        yield running, proxy


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Running, CuttingProxy]]:
    with in_thread(_proxied) as found:
        yield found


@pytest.fixture
def client(server: tuple[Running, CuttingProxy]) -> Iterator[PrismClient]:
    with PrismClient(namespace="user-uploads", endpoint=server[0].grpc) as made:
        yield made


def test_the_published_example_runs_as_it_is_printed(
    server: tuple[Running, CuttingProxy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    (tmp_path / "profile.jpg").write_bytes(LARGE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PRISM_ENDPOINT", server[0].grpc)
    exec(compile(found[1], "README.md", "exec"), {})
    assert (tmp_path / "downloaded.jpg").read_bytes() == LARGE
    uploaded, to, listed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Uploaded: \S+, ETag: \S+", uploaded)
    assert urlsplit(to.removeprefix("Upload to: ")).scheme == "http"
    assert listed.startswith(f"users/123/profile.jpg: {len(LARGE)} bytes, 2")


class TestPutAndGet:
    @pytest.mark.parametrize(
        "data",
        [LARGE, bytearray(LARGE), memoryview(LARGE), io.BytesIO(LARGE), [LARGE[:10], b"", LARGE[10:]], iter([LARGE])],
        ids=["bytes", "bytearray", "memoryview", "file", "list", "iterator"],
    )
    def test_data_of_every_kind_comes_back(self, client: PrismClient, data: object) -> None:
        put = client.put_object("", "kinds", data, "text/x", {"a": "b"}, ttl_seconds=60)  # type: ignore[arg-type]
        with client.get_object("", "kinds") as opened:
            assert (opened.content_type, opened.size_bytes, opened.metadata) == ("text/x", len(LARGE), {"a": "b"})
            assert opened.etag == put.etag
            pieces = list(opened.stream())
        assert b"".join(pieces) == LARGE
        assert max(map(len, pieces)) <= 1 << 20
        head = client.head_object("", "kinds")
        assert (head.etag, head.checksum_crc32c) == (put.etag, put.checksum_crc32c)
        assert head.expires_at is not None
        assert 58 <= (head.expires_at - head.last_modified).total_seconds() <= 61

    def test_a_file_is_sent_from_where_it_stands(self, client: PrismClient) -> None:
        file = io.BytesIO(b"0123456789")
        file.seek(4)
        assert client.put_object("", "rest", file).size_bytes == 6
        assert client.get_object("", "rest").read() == b"456789"

    def test_a_pipe_is_sent_to_its_end(self, client: PrismClient) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as source, os.fdopen(writing, "wb") as sink:
            sink.write(b"from a pipe")
            sink.close()
            client.put_object("", "pipe", source)
        assert client.get_object("", "pipe").read() == b"from a pipe"

    def test_empty_data_is_an_empty_object(self, client: PrismClient) -> None:
        for data in (b"", [], io.BytesIO()):
            assert client.put_object("", "empty", data).size_bytes == 0
            assert client.get_object("", "empty").read() == b""

    @pytest.mark.parametrize(
        ("start", "end", "expected"),
        [(0, 0, b"0"), (3, 5, b"345"), (8, None, b"89"), (8, 99, b"89"), (0, None, b"0123456789")],
    )
    def test_a_range_is_inclusive(self, client: PrismClient, start: int, end: int | None, expected: bytes) -> None:
        client.put_object("", "ten", b"0123456789")
        with client.get_object("", "ten", start, end) as opened:
            assert (opened.size_bytes, opened.expected_bytes) == (10, len(expected))
            assert opened.read() == expected

    def test_a_reader_that_was_left_early_is_released(self, client: PrismClient) -> None:
        client.put_object("", "large", LARGE)
        with client.get_object("", "large") as opened:
            next(opened.stream())
        with pytest.raises(PrismError, match="closed"):
            opened.read()

    def test_text_is_refused_with_a_hint(self, client: PrismClient, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("text")
        with pytest.raises(TypeError, match="encode"):
            client.put_object("", "text", "text")  # type: ignore[arg-type]
        with (tmp_path / "text").open() as file, pytest.raises(TypeError, match="mode 'rb'"):
            client.put_object("", "text", file)  # type: ignore[arg-type]
        with pytest.raises(ObjectNotFound):
            client.head_object("", "text")

    def test_an_iterable_that_fails_leaves_nothing(self, client: PrismClient, caplog: pytest.LogCaptureFixture) -> None:
        def failing() -> Iterator[bytes]:
            yield b"some"
            raise ZeroDivisionError("the caller's own")

        with pytest.raises(ZeroDivisionError):
            client.put_object("", "failing", failing())
        with pytest.raises(ObjectNotFound):
            client.head_object("", "failing")
        assert not [record for record in caplog.records if record.name.startswith("grpc._channel")]

    def test_files_go_and_come_with_progress(self, client: PrismClient, tmp_path: Path) -> None:
        (tmp_path / "in.png").write_bytes(LARGE)
        up: list[tuple[int, int]] = []
        down: list[tuple[int, int]] = []
        client.upload_file("", "file", tmp_path / "in.png", progress=lambda *at: up.append(at))
        info = client.download_file("", "file", tmp_path / "out.png", progress=lambda *at: down.append(at))
        assert (tmp_path / "out.png").read_bytes() == LARGE
        assert info.content_type == "image/png"
        for seen in (up, down):
            assert seen[-1] == (len(LARGE), len(LARGE))
            assert seen == sorted(seen)
        with pytest.raises(ObjectNotFound):
            client.download_file("", "absent", tmp_path / "out.png")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["in.png", "out.png"]
        assert (tmp_path / "out.png").read_bytes() == LARGE


class TestOtherOperations:
    def test_lists_iterate_over_all_pages(self, client: PrismClient) -> None:
        for number in range(5):
            client.put_object("prism-objects", f"pages/{number}", b"x")
        client.put_object("prism-objects", "pages/sub/1", b"x")
        keys = [found.key for found in client.list_objects("prism-objects", "pages/", page_size=2)]
        assert keys == [f"pages/{number}" for number in range(5)] + ["pages/sub/1"]
        pages = list(client.list_pages("prism-objects", "pages/", delimiter="/"))
        assert [prefix for page in pages for prefix in page.common_prefixes] == ["pages/sub/"]
        assert list(client.list_objects("", "nothing/")) == []

    def test_copy_delete_folder_expiring_and_usage(self, client: PrismClient) -> None:
        put = client.put_object("", "dir/a", b"12", ttl_seconds=100)
        assert client.copy_object("", "dir/a", "", "dir/b").etag == put.etag
        client.copy_object("", "dir/a", "", "far", destination_namespace="build-artifacts")
        assert "dir/a" in [found.key for found in client.list_expiring(3600, page_size=1)]
        assert client.usage().objects >= 2
        assert client.delete_object("", "dir/a") is True
        assert client.delete_object("", "dir/a") is False
        client.delete_prefix("", "dir/")
        assert list(client.list_objects("", "dir/")) == []

    def test_presigning_tells_headers_and_moment(self, client: PrismClient) -> None:
        made = client.presign("", "up", "PUT", 60, content_type="image/png")
        assert made.headers == {"content-type": "image/png"}
        with pytest.raises(InvalidArgument):
            client.get_presigned_url("", "up", "PUT", 3601)
        with pytest.raises(ObjectNotFound):
            client.get_presigned_url("", "absent")


class TestErrors:
    def test_errors_carry_their_facts(self, client: PrismClient) -> None:
        with pytest.raises(ObjectNotFound) as failed:
            client.head_object("", "absent")
        error = failed.value
        assert isinstance(error, NotFound)
        assert (error.code, error.reason, error.retryable) == ("NOT_FOUND", "OBJECT_NOT_FOUND", False)
        assert error.request_id
        assert error.request_id in str(error)

    def test_each_condition_has_its_class(self, client: PrismClient, server: tuple[Running, CuttingProxy]) -> None:
        client.put_object("", "k", b"1234")
        with pytest.raises(BucketNotFound):
            client.head_object("nowhere", "k")
        with pytest.raises(RangeError) as out:
            client.get_object("", "k", 4)
        assert out.value.context == {"size_bytes": "4"}
        with pytest.raises(PreconditionFailed):
            client.put_object("", "k", b"", if_none_match="*")
        with pytest.raises(PreconditionFailed):
            client.get_object("", "k", if_match="other")
        with pytest.raises(ChecksumMismatch):
            client.put_object("", "k", b"1", checksum_sha256="00" * 32)
        with pytest.raises(SizeMismatch):
            client.put_object("", "k", [b"1"], size_bytes=2)
        with PrismClient("nowhere", endpoint=server[0].grpc) as other, pytest.raises(NamespaceNotFound):
            other.head_object("", "k")
        assert client.get_object("", "k").read() == b"1234"

    def test_a_client_says_what_is_wrong_with_its_arguments(self) -> None:
        for wrong in ("", "http://", "host", "ftp://host:1", "host:port", "user@host:1", "host:1/path"):
            if wrong:
                with pytest.raises(InvalidArgument):
                    PrismClient("user-uploads", endpoint=wrong)
        with pytest.raises(InvalidArgument):
            PrismClient("")
        with pytest.raises(InvalidArgument):
            PrismClient("user-uploads", pattern="keyvalue")
        with pytest.raises(InvalidArgument):
            PrismClient("user-uploads", endpoint="http://host:1", tls=True)
        assert "very-secret" not in repr(PrismClient("user-uploads", api_key="very-secret"))

    def test_a_closed_client_says_so(self, server: tuple[Running, CuttingProxy]) -> None:
        client = PrismClient("user-uploads", endpoint=server[0].grpc)
        client.close()
        with pytest.raises(PrismError, match="closed"):
            client.usage()


class TestTrouble:
    def test_a_download_that_breaks_goes_on_where_it_was(
        self, client: PrismClient, server: tuple[Running, CuttingProxy]
    ) -> None:
        client.put_object("", "broken", LARGE)
        proxy = server[1]
        proxy.cuts[:], proxy.connections = [1_300_000, 800_000], 0
        with PrismClient("user-uploads", endpoint=proxy.address) as cut:
            assert cut.get_object("", "broken").read() == LARGE
        assert proxy.connections == 3

    def test_an_object_that_changes_while_it_is_read_is_not_mixed(
        self, client: PrismClient, server: tuple[Running, CuttingProxy]
    ) -> None:
        # So large that the cut lies beyond what may be read ahead when the object changes.
        client.put_object("", "changing", LARGE * 10)
        server[1].cuts[:] = [28_000_000]
        # By another name than in the test above, so that gRPC does not share its connection.
        with PrismClient("user-uploads", endpoint=server[1].address.replace("127.0.0.1", "localhost")) as cut:
            stream = cut.get_object("", "changing").stream()
            next(stream)
            client.put_object("", "changing", LARGE[::-1])
            with pytest.raises(PreconditionFailed):
                list(stream)

    def test_a_server_that_comes_back_is_waited_for(self) -> None:
        with in_thread(running_app) as first:
            address = first.grpc
        with PrismClient("user-uploads", endpoint=address, timeouts=Timeouts(call_seconds=1)) as client:
            began = time.monotonic()
            with pytest.raises(Unavailable):
                client.usage()
            assert time.monotonic() - began < 5

    def test_a_download_that_stalls_is_ended(self) -> None:
        with in_thread(served) as one:
            one.shelf.may_read.clear()
            with PrismClient("user-uploads", endpoint=one.address, timeouts=Timeouts(stall_seconds=0.3)) as client:
                with pytest.raises(Stalled):
                    client.put_object("", "k", [b"x"] * 3)
                assert one.shelf.committed == []

    def test_threads_share_a_client(self, client: PrismClient) -> None:
        def work(number: int) -> list[bytes]:
            seen = []
            for turn in range(5):
                client.put_object("", f"threads/{number}", f"{number}-{turn}".encode())
                seen.append(client.get_object("", f"threads/{number}").read())
            return seen

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(work, range(8), timeout=20))
        assert found == [[f"{number}-{turn}".encode() for turn in range(5)] for number in range(8)]


def test_a_connection_may_be_private(tmp_path: Path) -> None:
    made = self_signed(tmp_path)
    with in_thread(lambda: served(made)) as one:
        endpoint = f"https://localhost:{one.address.rpartition(':')[2]}"
        with PrismClient("user-uploads", endpoint=endpoint, ca_file=made.cert_file) as client:
            assert client.head_object("", "k").etag == "e-1"
        quick = Timeouts(call_seconds=0.5)
        with PrismClient("user-uploads", endpoint=endpoint, timeouts=quick) as distrustful, pytest.raises(Unavailable):
            distrustful.head_object("", "k")


def test_the_sdk_never_imports_the_server() -> None:
    for path in (README.parent / "prism_sdk").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) prism(\.| import|$)", path.read_text(), re.MULTILINE), path


def test_whole_reads_are_verified() -> None:
    with in_thread(served) as one:
        one.shelf.size_bytes = 2 << 20
        one.shelf.crc32c = "AAAAAA=="
        with PrismClient("user-uploads", endpoint=one.address) as client:
            stream = client.get_object("", "k").stream()
            assert len(next(stream)) == 1 << 20
            with pytest.raises(DataLoss):
                next(stream)
