"""What callers meet when a store fails: mapped errors, safe retries, limits, deadlines, writes that land late."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from prism.blob import BlobStore, StoreMetrics, open_blob
from prism.blob.driver import AlreadyExists, BadPart, Bound, NotFound, Part, WriteOptions
from prism.blob.layers import Limit, Observe, Retry, Timeout
from prism.blob.memory import MemoryDriver
from prism.blob.memory_front import Refused
from prism.config import MemoryStore
from prism.errors import ErrorCode, PrismError
from prism.testing.blob_suite import content_of, put, stream
from prism.testing.faulty_blob import Fault, FaultyBlob

WHOLE = b"x" * 100
PARTS = [
    "create_multipart",
    "put_part",
    "list_parts",
    "complete_multipart",
    "abort_multipart",
    "open_multiparts",
    "sign",
]
Call = Callable[[], Coroutine[object, object, object]]


async def refused(work: object) -> PrismError:
    assert asyncio.iscoroutine(work)
    with pytest.raises(PrismError) as raised:
        await work
    return raised.value


async def begun(store: BlobStore) -> tuple[dict[str, Call], tuple[str, Part]]:
    """An object `old`, an upload of `d/k` with a part, and a call of each rare power that would succeed."""
    old = await put(store, "old", WHOLE)
    upload = await store.create_multipart("d/k", WriteOptions())
    part = await store.put_part("d/k", upload, 1, stream(b"x"), 1)
    now = await store.now()
    calls: dict[str, Call] = {
        "create_multipart": lambda: store.create_multipart("l", WriteOptions()),
        "put_part": lambda: store.put_part("d/k", upload, 2, stream(b"x"), 1),
        "list_parts": lambda: store.list_parts("d/k", upload),
        "complete_multipart": lambda: store.complete_multipart("d/k", upload, [part], WriteOptions(create_only=False)),
        "abort_multipart": lambda: store.abort_multipart("d/k", upload),
        "open_multiparts": lambda: store.open_multiparts("d/k"),
        "sign": lambda: store.sign_part("d/k", upload, 1, now, 60),
        "delete_if": lambda: store.delete_if("old", old.etag),
        "copy": lambda: store.copy("old", old.etag, "copied", WriteOptions()),
    }
    return calls, (upload, part)


class Waits:
    """A sleep that is over at once and remembers how long it was asked for."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def faulty() -> FaultyBlob:
    return FaultyBlob(MemoryDriver(signs=True))


@pytest.fixture
def waits() -> Waits:
    return Waits()


# -- the front door


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.THROTTLED, Fault.FULL, Fault.RESET, Fault.LATE, Fault.ANSWER_LOST])
async def test_a_failing_put_is_store_down(faulty: FaultyBlob, fault: Fault) -> None:
    faulty.inject("put", fault)
    error = await refused(put(BlobStore(faulty), "k", WHOLE))
    assert error.code is ErrorCode.STORE_DOWN
    assert error.retryable
    if fault is Fault.THROTTLED:
        assert error.retry_after_seconds


@pytest.mark.parametrize("verb", ["get", "head", "delete", "list", "copy", "now"])
async def test_every_failing_call_is_store_down(faulty: FaultyBlob, verb: str) -> None:
    store = BlobStore(faulty)
    calls: dict[str, Callable[[], Coroutine[object, object, object]]] = {
        "get": lambda: store.get("k"),
        "head": lambda: store.head("k"),
        "delete": lambda: store.delete_many(["k"]),
        "list": lambda: store.list(""),
        "copy": lambda: store.copy("k", "e", "l", WriteOptions()),
        "now": store.now,
    }
    faulty.inject(verb, Fault.DOWN)
    assert (await refused(calls[verb]())).code is ErrorCode.STORE_DOWN


async def test_a_read_that_breaks_off_is_store_down(faulty: FaultyBlob) -> None:
    store = BlobStore(faulty)
    await put(store, "k", WHOLE)
    faulty.inject("get", Fault.RESET)
    assert (await refused(content_of(store, "k"))).code is ErrorCode.STORE_DOWN


async def test_a_failed_key_of_a_deletion_is_named(faulty: FaultyBlob) -> None:
    store = BlobStore(faulty)
    faulty.inject("delete", Fault.RESET)
    results = await store.delete_many(["a", "b"])
    assert results[0].error is None
    assert isinstance(results[1].error, PrismError)


async def test_a_lost_object_is_not_found(faulty: FaultyBlob) -> None:
    store = BlobStore(faulty)
    await put(store, "k", WHOLE)
    await faulty.lose("k")
    with pytest.raises(NotFound):
        await store.get("k")


@pytest.mark.parametrize("verb", [*PARTS, "delete_if"])
async def test_every_failing_call_of_a_rare_power_is_store_down(faulty: FaultyBlob, verb: str) -> None:
    store = BlobStore(faulty)
    calls, _ = await begun(store)
    faulty.inject(verb, Fault.DOWN)
    assert (await refused(calls[verb]())).code is ErrorCode.STORE_DOWN
    assert faulty.calls[verb] >= 1


async def test_a_late_write_appears_after_its_call_failed(faulty: FaultyBlob) -> None:
    store = BlobStore(faulty)
    assert not store.capabilities.returned_write_is_final
    faulty.inject("put", Fault.LATE)
    await refused(put(store, "k", WHOLE))
    assert await store.head("k") is None
    assert await faulty.land() == [None]
    assert await content_of(store, "k") == WHOLE


async def test_a_late_copy_and_a_late_completion_appear_after_their_calls_failed(faulty: FaultyBlob) -> None:
    store = BlobStore(faulty)
    calls, _ = await begun(store)
    for verb, key in (("copy", "copied"), ("complete_multipart", "d/k")):
        faulty.inject(verb, Fault.LATE)
        await refused(calls[verb]())
        assert await store.head(key) is None
        assert await faulty.land() == [None]
        assert await store.head(key) is not None


async def test_a_clients_own_write_may_be_late(faulty: FaultyBlob) -> None:
    """What was signed in time lands long after; of two late ones that must not replace, one does."""
    store = BlobStore(faulty)
    now = await store.now()
    signed = await store.sign_put("k", now, 60, Bound(create_only=True, size_bytes=1))
    faulty.inject("receive", Fault.LATE, Fault.LATE, Fault.LATE)
    for content in (b"a", b"b"):
        with pytest.raises(ConnectionResetError):
            await faulty.receive("PUT", signed.url, signed.headers, content)
    assert (await faulty.receive("PUT", signed.url, {}, b"c")).status == 403
    assert await store.head("k") is None
    first, second = await faulty.land()
    assert first is None
    assert isinstance(second, Refused)
    assert second.status == 412
    assert await content_of(store, "k") == b"a"


@pytest.mark.parametrize(
    ("fault", "status", "there"),
    [
        (Fault.THROTTLED, 503, False),
        (Fault.FULL, 507, False),
        (Fault.RESET, None, False),
        (Fault.DOWN, None, False),
        (Fault.ANSWER_LOST, None, True),
    ],
)
async def test_a_clients_own_write_meets_faults(
    faulty: FaultyBlob, fault: Fault, status: int | None, there: bool
) -> None:
    store = BlobStore(faulty)
    signed = await store.sign_put("k", await store.now(), 60, Bound())
    faulty.inject("receive", fault)
    if status is None:
        with pytest.raises(ConnectionError):
            await faulty.receive("PUT", signed.url, signed.headers, b"x")
    else:
        assert (await faulty.receive("PUT", signed.url, signed.headers, b"x")).status == status
    assert (await store.head("k") is not None) == there


# -- retry


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.RESET, Fault.THROTTLED])
async def test_a_small_put_is_sent_again(faulty: FaultyBlob, waits: Waits, fault: Fault) -> None:
    faulty.inject("put", fault, fault)
    observed: list[bytes] = []
    gates: list[int] = []

    async def gate() -> None:
        gates.append(1)

    options = WriteOptions(observe=observed.append, gate=gate)
    await put(BlobStore(Retry(faulty, sleep=waits)), "k", b"ab", b"c", options=options)
    assert await content_of(BlobStore(faulty), "k") == b"abc"
    assert b"".join(observed) == b"abc"
    assert faulty.calls["put"] == 3
    assert len(waits.seconds) == 2
    assert all(0 < seconds < 1 for seconds in waits.seconds)


async def test_a_long_stream_is_sent_once(faulty: FaultyBlob, waits: Waits) -> None:
    faulty.inject("put", Fault.RESET)
    store = BlobStore(Retry(faulty, sleep=waits, held_bytes=10))
    await refused(put(store, "k", b"12345", b"67890", b"x"))
    assert faulty.calls["put"] == 1
    await put(store, "k", b"12345", b"67890", b"x", b"y")
    assert await content_of(store, "k") == b"1234567890xy"


async def test_bytes_of_an_attempt_whose_answer_was_lost_are_not_taken_for_the_next_ones(
    faulty: FaultyBlob, waits: Waits
) -> None:
    """The outcome is unknown, and is told as such, not as somebody else's win."""
    faulty.inject("put", Fault.ANSWER_LOST)
    error = await refused(put(BlobStore(Retry(faulty, sleep=waits)), "k", WHOLE))
    assert error.code is ErrorCode.STORE_DOWN
    with pytest.raises(AlreadyExists):
        await put(BlobStore(Retry(faulty, sleep=waits)), "k", WHOLE)


@pytest.mark.parametrize("fault", [Fault.DOWN, Fault.RESET, Fault.THROTTLED])
@pytest.mark.parametrize("verb", [*PARTS, "delete_if"])
async def test_calls_of_rare_powers_are_sent_again(faulty: FaultyBlob, waits: Waits, verb: str, fault: Fault) -> None:
    if verb == "sign":
        pytest.skip("signing sends nothing")
    store = BlobStore(Retry(faulty, sleep=waits))
    calls, _ = await begun(store)
    before = faulty.calls[verb]
    faulty.inject(verb, fault, fault)
    await calls[verb]()
    assert faulty.calls[verb] == before + 3
    assert len(waits.seconds) == 2


async def test_a_part_that_is_sent_again_is_whole(faulty: FaultyBlob, waits: Waits) -> None:
    store = BlobStore(Retry(faulty, sleep=waits, held_bytes=10))
    upload = await store.create_multipart("k", WriteOptions())
    faulty.inject("put_part", Fault.RESET, Fault.ANSWER_LOST)
    part = await store.put_part("k", upload, 1, stream(b"12345", b"6789"), 9)
    assert list(await store.list_parts("k", upload)) == [part]
    faulty.inject("put_part", Fault.RESET)
    await refused(store.put_part("k", upload, 2, stream(b"12345", b"67890", b"1"), 11))
    long = await store.put_part("k", upload, 2, stream(b"12345", b"67890", b"1"), 11)
    await store.complete_multipart("k", upload, [part, long], WriteOptions())
    assert await content_of(store, "k") == b"12345678912345678901"


async def test_a_completion_whose_answer_was_lost_is_unknown_and_not_over(faulty: FaultyBlob, waits: Waits) -> None:
    """The repetition finds no upload any more, which says nothing against the first."""
    store = BlobStore(Retry(faulty, sleep=waits))
    calls, _ = await begun(store)
    faulty.inject("complete_multipart", Fault.ANSWER_LOST)
    assert (await refused(calls["complete_multipart"]())).code is ErrorCode.STORE_DOWN
    assert await content_of(store, "d/k") == b"x"


async def test_a_beginning_whose_answer_was_lost_is_found_by_its_key(faulty: FaultyBlob, waits: Waits) -> None:
    store = BlobStore(Retry(faulty, sleep=waits))
    faulty.inject("create_multipart", Fault.ANSWER_LOST)
    upload = await store.create_multipart("k", WriteOptions())
    opened = [one.upload for one in await store.open_multiparts("k")]
    assert len(opened) == 2
    assert upload in opened


async def test_a_gate_that_fails_is_not_asked_again(faulty: FaultyBlob, waits: Waits) -> None:
    asked: list[int] = []

    async def gate() -> None:
        asked.append(1)
        raise ConnectionResetError

    store = BlobStore(Retry(faulty, sleep=waits))
    _, (upload, part) = await begun(store)
    options = WriteOptions(gate=gate)
    for work in (
        store.create_multipart("l", options),
        store.complete_multipart("d/k", upload, [part], options),
    ):
        with pytest.raises(ConnectionResetError):
            await work
    assert asked == [1, 1]
    assert waits.seconds == []


async def test_a_pinned_delete_whose_answer_was_lost_is_done(faulty: FaultyBlob, waits: Waits) -> None:
    store = BlobStore(Retry(faulty, sleep=waits))
    stored = await put(store, "k", WHOLE)
    faulty.inject("delete_if", Fault.ANSWER_LOST)
    await store.delete_if("k", stored.etag)
    assert await store.head("k") is None


async def test_the_callers_own_failures_are_not_repeated(faulty: FaultyBlob, waits: Waits) -> None:
    async def gate() -> None:
        raise ConnectionResetError

    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        raise ConnectionResetError

    store = BlobStore(Retry(faulty, sleep=waits))
    with pytest.raises(ConnectionResetError):
        await put(store, "k", WHOLE, options=WriteOptions(gate=gate))
    with pytest.raises(ConnectionResetError):
        await store.put("k", chunks(), WriteOptions())
    assert waits.seconds == []


async def test_what_cannot_succeed_is_not_repeated(faulty: FaultyBlob, waits: Waits) -> None:
    store = BlobStore(Retry(faulty, sleep=waits))
    assert await store.head("k") is None
    faulty.inject("put", Fault.FULL)
    await refused(put(store, "k", WHOLE))
    assert waits.seconds == []


async def test_retries_end(faulty: FaultyBlob, waits: Waits) -> None:
    faulty.always("head", Fault.DOWN)
    store = BlobStore(Retry(faulty, sleep=waits, attempts=3, budget=7))
    await refused(store.head("k"))
    assert faulty.calls["head"] == 3
    for _ in range(10):
        await refused(store.head("k"))
    assert len(waits.seconds) == 7
    faulty.always("head", None)
    await store.head("k")
    faulty.inject("head", Fault.DOWN)
    await store.head("k")
    assert len(waits.seconds) == 8


async def test_keys_that_failed_for_a_moment_are_deleted_again(faulty: FaultyBlob, waits: Waits) -> None:
    store = BlobStore(Retry(faulty, sleep=waits))
    keys = [f"{at}" for at in range(8)]
    for key in keys:
        await put(store, key, b"x")
    faulty.inject("delete", Fault.RESET, Fault.DOWN, Fault.RESET)
    results = await store.delete_many(keys)
    assert [(result.key, result.error) for result in results] == [(key, None) for key in keys]
    assert await store.list("") == []


async def test_deletions_that_keep_failing_say_so(faulty: FaultyBlob, waits: Waits) -> None:
    faulty.always("delete", Fault.RESET)
    results = await BlobStore(Retry(faulty, sleep=waits, attempts=2)).delete_many(["a", "b", "c", "d"])
    assert [result.error is None for result in results] == [True, True, True, False]


# -- limit, timeout


async def test_calls_beyond_the_limit_wait_and_then_are_refused(faulty: FaultyBlob) -> None:
    store = BlobStore(Limit(faulty, concurrent=2, wait_seconds=0.05))
    await put(store, "k", WHOLE)
    opened = [await store.get("k"), await store.get("k")]
    error = await refused(store.head("k"))
    assert error.code is ErrorCode.STORE_DOWN
    for read in opened:
        await read.body.aclose()
        await read.body.aclose()
    await asyncio.gather(*(store.head("k") for _ in range(10)))


async def test_only_so_many_wait_for_a_silent_store(faulty: FaultyBlob) -> None:
    store = BlobStore(Limit(faulty, concurrent=1, wait_seconds=5, waiting=2))
    await put(store, "k", WHOLE)
    faulty.inject("head", Fault.HANG)
    calls = [asyncio.ensure_future(store.head("k")) for _ in range(3)]
    await asyncio.sleep(0)
    assert (await refused(asyncio.wait_for(store.head("k"), 1))).code is ErrorCode.STORE_DOWN
    faulty.release()
    await asyncio.gather(*calls)
    assert await store.head("k") is not None


async def test_what_is_held_for_repetitions_is_bounded_in_all(faulty: FaultyBlob, waits: Waits) -> None:
    """Bodies beyond that are sent once; when others have gone, they are held again."""
    store = BlobStore(Retry(faulty, sleep=waits, held_in_all_bytes=150))
    faulty.inject("put", Fault.HANG, Fault.DOWN)
    first = asyncio.ensure_future(put(store, "a", WHOLE))
    await asyncio.sleep(0)
    assert (await refused(put(store, "b", WHOLE))).code is ErrorCode.STORE_DOWN
    assert waits.seconds == []
    faulty.release()
    await first
    for fault in (Fault.DOWN, Fault.RESET):
        faulty.inject("put", fault)
        await put(store, f"c{fault}", WHOLE)
    assert len(waits.seconds) == 2
    assert await content_of(store, "a") == WHOLE


async def test_a_failed_open_gives_its_slot_back(faulty: FaultyBlob) -> None:
    store = BlobStore(Limit(faulty, concurrent=1, wait_seconds=0.05))
    for _ in range(3):
        with pytest.raises(NotFound):
            await store.get("none")


@pytest.mark.parametrize("verb", [*PARTS, "delete_if", "copy"])
async def test_a_hanging_call_of_a_rare_power_ends(faulty: FaultyBlob, verb: str) -> None:
    store = BlobStore(Timeout(faulty, seconds=0.02))
    calls, _ = await begun(store)
    faulty.inject(verb, Fault.HANG)
    error = await refused(asyncio.wait_for(calls[verb](), 10))
    assert error.code is ErrorCode.STORE_DOWN


@pytest.mark.parametrize("verb", [*PARTS, "delete_if", "copy"])
async def test_calls_of_rare_powers_take_one_slot_and_give_it_back(faulty: FaultyBlob, verb: str) -> None:
    store = BlobStore(Limit(faulty, concurrent=1, wait_seconds=0.05))
    calls, _ = await begun(store)
    await put(store, "held", WHOLE)
    faulty.inject(verb, Fault.DOWN)
    await refused(calls[verb]())
    await calls[verb]()
    opened = await store.get("held")
    if verb == "sign":
        await calls[verb]()  # sends nothing, so it waits for nobody
    else:
        assert (await refused(calls[verb]())).retryable
    await opened.body.aclose()


@pytest.mark.parametrize("verb", ["put", "get", "head", "list"])
async def test_a_hanging_call_ends(faulty: FaultyBlob, verb: str) -> None:
    store = BlobStore(Timeout(faulty, seconds=0.05))
    calls: dict[str, Callable[[], Coroutine[object, object, object]]] = {
        "put": lambda: put(store, "k", WHOLE),
        "get": lambda: store.get("k"),
        "head": lambda: store.head("k"),
        "list": lambda: store.list(""),
    }
    faulty.inject(verb, Fault.HANG)
    error = await refused(asyncio.wait_for(calls[verb](), 10))
    assert error.code is ErrorCode.STORE_DOWN


async def test_a_slow_caller_is_not_taken_for_a_slow_store(faulty: FaultyBlob) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.06)
            yield b"x"

    async def gate() -> None:
        await asyncio.sleep(0.06)

    store = BlobStore(Timeout(faulty, seconds=0.05))
    upload = await store.create_multipart("p", WriteOptions(gate=gate))
    part = await store.put_part("p", upload, 1, chunks(), 3)
    await store.complete_multipart("p", upload, [part], WriteOptions(gate=gate))
    await store.put("k", chunks(), WriteOptions(gate=gate))
    body = (await store.get("k")).body
    async for _ in body:
        await asyncio.sleep(0.06)
    assert await content_of(store, "k") == b"xxx"


# -- what is counted


async def test_calls_are_counted_by_what_came_of_them() -> None:
    registry = CollectorRegistry()
    faulty = FaultyBlob(MemoryDriver())
    metrics = StoreMetrics(registry)
    store = BlobStore(Observe(faulty, metrics, "images"))
    await put(store, "k", WHOLE)
    with pytest.raises(AlreadyExists):
        await put(store, "k", WHOLE)
    faulty.inject("head", Fault.DOWN)
    await refused(store.head("k"))
    await store.head("none")
    upload = await store.create_multipart("p", WriteOptions())
    with pytest.raises(BadPart):
        await store.complete_multipart("p", upload, [], WriteOptions())

    def count(call: str, outcome: str) -> float | None:
        labels = {"store": "images", "call": call, "outcome": outcome}
        return registry.get_sample_value("prism_store_call_seconds_count", labels)

    assert [count("put", "ok"), count("put", "exists"), count("head", "failed"), count("head", "not_found")] == [1] * 4
    assert [count("create_multipart", "ok"), count("complete_multipart", "bad_part")] == [1] * 2
    second = await open_blob(MemoryStore(), name="sounds", metrics=metrics)
    await second.put("k", stream(WHOLE), WriteOptions())
    assert registry.get_sample_value(
        "prism_store_call_seconds_count", {"store": "sounds", "call": "put", "outcome": "ok"}
    )


# -- a real full and a real read-only filesystem

ON_SMALL_DISK = """
import asyncio, os, subprocess, sys
from pathlib import Path
from prism.blob import open_blob
from prism.blob.driver import WriteOptions
from prism.config import LocalStore
from prism.errors import PrismError

async def chunks(count):
    for _ in range(count):
        yield bytes(2**20)

async def main():
    store = await open_blob(LocalStore(root=Path(sys.argv[1]) / "blobs"))
    await store.put("d/fits", chunks(1), WriteOptions())
    for _ in range(3):
        try:
            await store.put("d/big", chunks(8), WriteOptions())
        except PrismError as error:
            print(error.code, error.message)
    await store.put("d/fits-too", chunks(1), WriteOptions())
    await store.close()
    subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
    print(sorted(os.listdir(sys.argv[1] + "/blobs/d")))
    try:
        await open_blob(LocalStore(root=Path(sys.argv[1]) / "blobs"))
    except PrismError as error:
        print(error.code, error.message)

asyncio.run(main())
"""


async def test_a_full_and_a_read_only_disk(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("needs a mount of its own")
    inner = f'mount -t tmpfs -o size=4m none {tmp_path} && exec "$0" "$@"'
    command = ["unshare", "-rm", "sh", "-c", inner, sys.executable, "-c", ON_SMALL_DISK, str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    full = "STORE_DOWN the store is full; nothing was stored"
    *first, names, read_only = out.decode().splitlines()
    assert first == [full] * 3
    assert names == "['fits', 'fits-too']"
    assert read_only.startswith("STORE_DOWN the store's folder")
    assert "Read-only file system" in read_only
