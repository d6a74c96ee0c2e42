"""What the drivers on obstore share: metadata that headers carry, bodies cut into parts, answers told apart."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from obstore.exceptions import AlreadyExistsError, GenericError, PermissionDeniedError

from prism.blob.driver import AlreadyExists, EtagMismatch, NoSpace, NotFound, Throttled
from prism.blob.obstores import Cut, answered, fitted, plain_metadata, quoted, translated, unquoted
from prism.blob.s3_uploads import part_bytes
from prism.blob.threads import Threads
from prism.errors import PrismError

NAMES = st.from_regex(r"\A[a-z0-9][a-z0-9-]{0,20}\Z") | st.sampled_from(["content-type", "cache-control", "prism-key"])
TEXTS = st.text(st.characters(codec="utf-8"), max_size=200) | st.sampled_from(["", " a", "a  b", "=?utf-8?b?YQ==?="])


@given(st.dictionaries(NAMES, TEXTS, max_size=8))
def test_metadata_comes_back_as_it_was(metadata: dict[str, str]) -> None:
    fields = fitted(metadata, 10**6)
    assert plain_metadata(fields) == metadata
    for name, value in fields.items():
        assert name.lower() not in {"content-type", "cache-control"}
        assert value.isascii()
        assert value.isprintable()
        assert value == " ".join(value.split())


@given(st.dictionaries(NAMES, TEXTS, max_size=8), st.integers(0, 300))
def test_what_does_not_fit_is_left_away_prisms_own_last(metadata: dict[str, str], limit: int) -> None:
    fields = fitted(metadata, limit, 11)
    assert sum(len(name) + len(value) + 11 for name, value in fields.items()) <= limit
    assert plain_metadata(fields).items() <= metadata.items()
    own = {name: value for name, value in metadata.items() if name.startswith("prism-")}
    assert fitted(own, limit, 11).items() <= fields.items()


def test_what_others_wrote_stays_as_it_is() -> None:
    theirs = {"a": "=?utf-8?b?%%?=", "b": "=?utf-8?b?/w==?=", "C": "=?utf-8?q?x?="}
    assert plain_metadata(theirs) == {name.lower(): value for name, value in theirs.items()}


@given(st.text())
def test_etags_have_one_form(etag: str) -> None:
    assert unquoted(quoted(etag)) == etag


async def _chunks(sizes: list[int]) -> AsyncIterator[bytes]:
    for at, size in enumerate(sizes):
        yield bytes([at % 256]) * size


@given(st.lists(st.integers(1, 50), max_size=20), st.lists(st.integers(1, 70), min_size=1, max_size=5))
def test_a_body_is_cut_as_asked_and_seen_once(sizes: list[int], asked: list[int]) -> None:
    async def cut() -> None:
        seen: list[bytes] = []
        body = Cut(_chunks(sizes), seen.append, None)
        whole = b"".join([chunk async for chunk in _chunks(sizes)])
        taken = [await body.take(size) for size in asked]
        assert b"".join(taken) == whole[: sum(asked)]
        assert all(len(part) == size for part, size in zip(taken, asked, strict=True)) or await body.is_over()
        assert await body.is_over() == (sum(asked) >= len(whole))
        assert b"".join(seen) == whole[: len(b"".join(seen))]

    asyncio.run(cut())


async def test_big_chunks_are_looked_at_off_the_loop() -> None:
    import threading

    threads, where = Threads(2, "look"), list[int]()
    body = Cut(_chunks([10, 200_000]), lambda _: where.append(threading.get_ident()), threads)
    await body.take(300_000)
    await threads.close()
    assert where[0] == threading.get_ident() != where[1]


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "", NotFound),
        (404, "NoSuchBucket", PrismError),
        (412, "PreconditionFailed", EtagMismatch),
        (409, "", AlreadyExists),
        (409, "OperationAborted", ConnectionError),
        (500, "InternalError", ConnectionError),
        (503, "SlowDown", Throttled),
        (200, "SlowDown", Throttled),
        (507, "", NoSpace),
        (400, "XMinioStorageFull", NoSpace),
        (403, "AccessDenied", PrismError),
        (400, "ExpiredToken", PrismError),
        (400, "InvalidArgument", PrismError),
    ],
)
def test_answers(status: int, code: str, kind: type[Exception]) -> None:
    assert isinstance(answered(status, code, "bucket"), kind)


SECRET = "https://host/bucket/k?X-Amz-Signature=0123"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (GenericError(f"PUT {SECRET} - Server returned non-2xx status code: 503 Service Unavailable: "), Throttled),
        (GenericError(f"GET {SECRET} - HTTP error\n kind: Timeout,"), TimeoutError),
        (GenericError(f"GET {SECRET} - HTTP error\n kind: Connect,"), ConnectionError),
        (GenericError(f"what else {SECRET}"), PrismError),
        (FileNotFoundError(f"Object not found: {SECRET}"), NotFound),
        (FileNotFoundError(f"{SECRET} <Code>NoSuchBucket</Code>"), PrismError),
        (AlreadyExistsError(SECRET), AlreadyExists),
        (AlreadyExistsError(f"{SECRET} <Code>ConditionalRequestConflict</Code>"), ConnectionError),
        (PermissionDeniedError(SECRET), PrismError),
    ],
)
def test_what_obstore_raises_is_told_apart_and_not_shown(error: Exception, kind: type[Exception]) -> None:
    known = translated(error, "bucket")
    assert isinstance(known, kind)
    assert "Signature" not in f"{known} {known!r} {getattr(known, 'context', '')}"


def test_what_is_not_obstores_stays() -> None:
    error = ValueError("x")
    assert translated(error, "bucket") is error


def test_ten_thousand_parts_hold_five_tebibytes() -> None:
    sizes = [part_bytes(number) for number in range(1, 10_001)]
    assert sum(sizes) >= 5 * 2**40
    assert sizes == sorted(sizes)
    assert sizes[0] == 8 * 2**20
    assert sizes[-1] <= 5 * 2**30
