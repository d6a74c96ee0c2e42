"""The doctor tells the truth about stores that lack this or that, and leaves nothing behind."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from prism.abilities import recall, record
from prism.blob import BlobStore
from prism.blob.driver import BucketSettings, Capabilities, Driver, Signed, Stored, WriteOptions
from prism.blob.found import Abilities
from prism.blob.memory import MemoryDriver
from prism.config import NamespaceConfig, S3Store, load
from prism.doctor import Answer, Diagnosis, Outcome, Probes, examine_store
from prism.identifiers import version_ids
from prism.meta import open_meta
from prism.model import Bindable
from prism.testing.faulty_blob import Fault, FaultyBlob

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
YAML = """
namespaces:
  - {name: media, backend: minio, endpoint: "127.0.0.1:9", bucket: media, access_key: key, secret_key: word}
"""


def clock() -> datetime:
    return NOW


@pytest.fixture
def space(tmp_path: Path) -> NamespaceConfig:
    path = tmp_path / "prism.yaml"
    path.write_text(YAML)
    return load(path, {}, data_dir=tmp_path / "data").namespaces[0]


def by_url(store: MemoryDriver) -> Callable[[str, Signed, bytes | None], Awaitable[Answer]]:
    """A plain client of the store's own HTTP side."""

    async def send(method: str, signed: Signed, body: bytes | None) -> Answer:
        answer = await store.receive(method, signed.url, signed.headers, body or b"")
        return Answer(answer.status, dict(answer.headers), answer.content)

    return send


async def diagnosed(space: NamespaceConfig, store: MemoryDriver, driver: Driver | None = None) -> Diagnosis:
    probes = Probes(space, BlobStore(driver or store), by_url(store), now=clock, new_id=version_ids(clock))
    return await examine_store(probes)


def said(diagnosis: Diagnosis) -> dict[str, Outcome]:
    return {finding.check: finding.outcome for finding in diagnosis.findings}


async def left(store: MemoryDriver) -> list[str]:
    return [entry.key for entry in await store.list("", "", 1000)]


async def test_a_store_that_can_everything(space: NamespaceConfig) -> None:
    store = MemoryDriver(clock, signs=True)
    diagnosis = await diagnosed(space, store)
    assert diagnosis.healthy, diagnosis
    assert diagnosis.abilities == Abilities(
        conditional_put=True,
        conditional_delete=True,
        copy=True,
        multipart=True,
        sign=True,
        binds=tuple(sorted(store.capabilities.binds)),
    )
    assert await left(store) == []


class Boasting(FaultyBlob):
    """A driver that declares more than its server holds URLs to."""

    @property
    def capabilities(self) -> Capabilities:
        declared: frozenset[Bindable] = frozenset({"content_type", "create_only", "sha256", "size"})
        return msgspec.structs.replace(super().capabilities, binds=declared)


async def test_a_store_that_binds_less_than_it_is_said_to(space: NamespaceConfig) -> None:
    store = MemoryDriver(clock, signs=True, binds=frozenset({"content_type", "size"}))
    diagnosis = await diagnosed(space, store, Boasting(store))
    assert diagnosis.abilities is not None
    assert diagnosis.abilities.binds == ("content_type", "size")
    bound = next(finding for finding in diagnosis.findings if finding.check == "bound PUT")
    assert bound.outcome is Outcome.NOTE
    assert "not enforced here: create_only, sha256" in bound.said


class Careless(FaultyBlob):
    """A compatible that ignores conditions."""

    async def put(self, key: str, chunks: AsyncIterator[bytes], options: WriteOptions) -> Stored:
        return await super().put(key, chunks, msgspec.structs.replace(options, create_only=False))

    async def delete_if(self, key: str, if_match: str) -> None:
        await self.delete_many([key])

    async def copy(self, source: str, if_match: str, key: str, options: WriteOptions) -> Stored:
        return await super().copy(source, (await self.head(source)).etag, key, options)


async def test_a_store_that_ignores_conditions(space: NamespaceConfig) -> None:
    store = MemoryDriver(clock, signs=True)
    diagnosis = await diagnosed(space, store, Careless(store))
    assert diagnosis.healthy
    assert diagnosis.abilities is not None
    found = diagnosis.abilities
    assert (found.conditional_put, found.conditional_delete, found.copy) == (False, False, False)
    outcomes = said(diagnosis)
    assert {outcomes[check] for check in ("conditional write", "conditional delete", "copy")} == {Outcome.LACKS}


async def test_a_store_that_is_down(space: NamespaceConfig) -> None:
    store = MemoryDriver(clock, signs=True)
    faulty = FaultyBlob(store)
    for verb in ("now", "put", "get", "head", "list", "delete"):
        faulty.always(verb, Fault.DOWN)
    diagnosis = await diagnosed(space, store, faulty)
    outcomes = said(diagnosis)
    assert not diagnosis.healthy
    assert (outcomes["reach"], outcomes["write"]) == (Outcome.FAILED, Outcome.SKIPPED)
    assert diagnosis.abilities is None


async def test_a_clock_that_is_off_fails(space: NamespaceConfig) -> None:
    store = MemoryDriver(lambda: NOW + timedelta(seconds=90), signs=True)
    diagnosis = await diagnosed(space, store)
    finding = next(finding for finding in diagnosis.findings if finding.check == "clock")
    assert finding.outcome is Outcome.FAILED
    assert "90 s ahead" in finding.said


async def test_probes_that_cannot_be_deleted_are_told(space: NamespaceConfig) -> None:
    store = MemoryDriver(clock)
    faulty = FaultyBlob(store)
    faulty.always("delete", Fault.DOWN)
    diagnosis = await diagnosed(space, store, faulty)
    assert said(diagnosis)["delete"] is Outcome.FAILED


class Keeping(FaultyBlob):
    """A bucket with habits of its own."""

    async def settings(self) -> BucketSettings:
        return BucketSettings(versioning=True, object_lock=False, soft_delete_seconds=0, expires_objects=True)


async def test_what_the_bucket_does_by_itself_is_told(space: NamespaceConfig) -> None:
    store = MemoryDriver(clock)
    outcomes = said(await diagnosed(space, store, Keeping(store)))
    assert outcomes["versioning"] is Outcome.NOTE
    assert outcomes["lifecycle"] is Outcome.FAILED


async def test_what_was_found_counts_for_the_place_where_it_was_found() -> None:
    meta = await open_meta("memory:")
    here, there = S3Store(bucket="here", endpoint="http://a:1"), S3Store(bucket="there", endpoint="http://a:1")
    found = Abilities(conditional_put=False, conditional_delete=True, copy=True, multipart=True, sign=True)
    assert await recall(meta, "media", here) is None
    await record(meta, "media", here, found, NOW)
    assert await recall(meta, "media", here) == found
    assert await recall(meta, "media", there) is None
    assert await recall(meta, "other", here) is None
    await meta.close()


async def test_a_record_changes_what_is_declared_but_adds_no_power() -> None:
    class Plain:
        """A driver without rare powers."""

        capabilities = MemoryDriver(clock).capabilities

    found = Abilities(conditional_put=False, conditional_delete=True, copy=True, multipart=True, sign=True)
    declared = found.apply(Plain())  # type: ignore[arg-type]  # only its capabilities are looked at
    powers = (declared.conditional_put, declared.conditional_delete, declared.copy, declared.multipart, declared.sign)
    assert not any(powers)
    assert found.apply(MemoryDriver(clock)).conditional_delete
