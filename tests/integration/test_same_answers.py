"""The same case on gRPC, HTTP and S3 has the same answer, and what one writes the others read."""

import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from three_apis import Api, Ask, GrpcApi, HttpApi, S3Api, same, sha256_of

from prism.errors import ErrorCode
from prism.testing.running import running_app

NAMES = [
    "..",
    "../up",
    "a/../b",
    ".",
    "./here",
    "/absolute",
    "/",
    "//",
    "a//b",
    "a/",
    "a",
    "ab",
    "A",
    "back\\slash",
    "%2e%2e/%2F",
    "#?%+&= key",
    "semi;colon,comma'quote\"<>",
    "cr\r\nlf",
    "tab\tbell\x07",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "emoji-😀/💾",
    "~owner",
    "~staging/x",
    "a~b/c~d",
    " leading and trailing ",
    "dots.../trailing.",
    "CON",
    "é" * 512,
    "x" * 1024,
    "/".join("d" * 3 for _ in range(256)),
]


@pytest.fixture(params=["memory", "files"])
async def apis(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Api]]:
    folder = None if request.param == "memory" else tmp_path
    async with running_app(data_dir=folder, overrides={"limits.max_object_bytes": "100000"}) as running:
        yield [GrpcApi(running), HttpApi(running), S3Api(running)]


async def test_every_name_is_found_again_exactly(apis: list[Api]) -> None:
    for number, name in enumerate(NAMES):
        writer = apis[number % 3]
        assert (await writer.ask(Ask("put", name, body=f"{number}".encode()))).code == "", name
    for api in apis:
        for number, name in enumerate(NAMES):
            found = await api.ask(Ask("get", name))
            assert (found.code, found.body) == ("", f"{number}".encode()), (api, name)
        listed = await api.ask(Ask("list"))
        assert list(listed.keys) == sorted(NAMES, key=str.encode)
    for number, name in enumerate(NAMES):
        assert (await apis[(number + 1) % 3].ask(Ask("delete", name))).code == ""
        for api in apis:
            assert (await api.ask(Ask("head", name))).code == same(ErrorCode.OBJECT_NOT_FOUND, api), name
    for api in apis:
        assert (await api.ask(Ask("list"))).keys == ()


REFUSED = [
    ("nul", Ask("put", "a\0b"), ErrorCode.INVALID_ARGUMENT),
    ("nul on reads", Ask("get", "a\0b"), ErrorCode.INVALID_ARGUMENT),
    ("too long", Ask("put", "x" * 1025), ErrorCode.INVALID_ARGUMENT),
    ("too long in bytes", Ask("put", "é" * 513), ErrorCode.INVALID_ARGUMENT),
    ("absent object", Ask("get", "absent"), ErrorCode.OBJECT_NOT_FOUND),
    ("absent bucket", Ask("get", "there", bucket="no-such-bucket"), ErrorCode.BUCKET_NOT_FOUND),
    ("put into an absent bucket", Ask("put", "there", bucket="no-such-bucket"), ErrorCode.BUCKET_NOT_FOUND),
    ("another namespace's bucket", Ask("get", "there", bucket="prism-builds"), ErrorCode.BUCKET_NOT_FOUND),
    ("bucket that climbs", Ask("get", "there", bucket=".."), ErrorCode.BUCKET_NOT_FOUND),
    ("range past the end", Ask("get", "there", range=(5, None)), ErrorCode.RANGE_NOT_SATISFIABLE),
    ("put-if-absent of a present key", Ask("put", "there", if_none_match="*"), ErrorCode.PRECONDITION_FAILED),
    ("put-if-match of another etag", Ask("put", "there", if_match="0" * 32), ErrorCode.PRECONDITION_FAILED),
    ("put-if-match of an absent key", Ask("put", "absent", if_match="*"), ErrorCode.PRECONDITION_FAILED),
    ("get-if-match of another etag", Ask("get", "there", if_match="0" * 32), ErrorCode.PRECONDITION_FAILED),
    ("wrong CRC-32C", Ask("put", "new", body=b"x", crc32c="AAAAAA=="), ErrorCode.CHECKSUM_MISMATCH),
    ("wrong SHA-256", Ask("put", "new", body=b"x", sha256=sha256_of(b"y")), ErrorCode.CHECKSUM_MISMATCH),
    ("too large", Ask("put", "new", body=bytes(100_001)), ErrorCode.TOO_LARGE),
    ("metadata over 2 KB", Ask("put", "new", metadata={"m": "x" * 2100}), ErrorCode.INVALID_ARGUMENT),
    ("token that is none", Ask("list", token="AAAA"), ErrorCode.INVALID_ARGUMENT),
    ("list of an absent bucket", Ask("list", bucket="no-such-bucket"), ErrorCode.BUCKET_NOT_FOUND),
    ("negative page", Ask("list", limit=-1), ErrorCode.INVALID_ARGUMENT),
]


@pytest.mark.parametrize(("ask", "code"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
async def test_refusals_are_the_same_and_change_nothing(apis: list[Api], ask: Ask, code: ErrorCode) -> None:
    await apis[0].ask(Ask("put", "there", body=b"12345"))
    for api in apis:
        assert (await api.ask(ask)).code == same(code, api), type(api).__name__
        assert (await api.ask(Ask("list"))).keys == ("there",)
        assert (await api.ask(Ask("get", "there"))).body == b"12345"


async def test_ranges_are_the_same(apis: list[Api]) -> None:
    await apis[1].ask(Ask("put", "there", body=b"0123456789"))
    cases = {(0, 0): b"0", (0, None): b"0123456789", (3, 5): b"345", (9, 9): b"9", (9, 1000): b"9", (4, 9): b"456789"}
    for wanted, expected in cases.items():
        for api in apis:
            assert (await api.ask(Ask("get", "there", range=wanted))).body == expected, (type(api).__name__, wanted)


async def test_metadata_reads_the_same_everywhere(apis: list[Api]) -> None:
    for writer in apis:
        await writer.ask(Ask("put", "there", metadata={"owner": "me", "a-b": "1 2"}))
        for api in apis:
            assert (await api.ask(Ask("head", "there"))).metadata == {"owner": "me", "a-b": "1 2"}


async def test_a_deletion_of_nothing_succeeds(apis: list[Api]) -> None:
    for api in apis:
        assert (await api.ask(Ask("delete", "absent"))).code == ""


async def test_pages_put_together_hold_every_key_once(apis: list[Api]) -> None:
    keys = [f"k/{number:03d}" for number in range(25)]
    for number, key in enumerate(keys):
        await apis[number % 3].ask(Ask("put", key))
    for api in apis:
        found, token = [], ""
        while True:
            page = await api.ask(Ask("list", prefix="k/", limit=7, token=token))
            found += page.keys
            if not (token := page.token):
                break
        assert found == keys
        first = await api.ask(Ask("list", prefix="k/", limit=7))
        stolen = await api.ask(Ask("list", prefix="k", limit=7, token=first.token))
        assert stolen.code == same(ErrorCode.INVALID_ARGUMENT, api)
