"""For tests of uploads: a running Prism over each kind of store, and a client that sends bytes where it is told to."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from prism.app import Wraps
from prism.blob.driver import Driver
from prism.blob.memory import MemoryDriver
from prism.model import Bindable
from prism.testing.clocks import ShiftedClock, ShiftedStore
from prism.testing.running import Running, running_app

__all__ = ["BINDS", "BUCKET", "KINDS", "SPACE", "Sent", "World", "world_over"]

T = TypeVar("T")
SPACE, BUCKET = "user-uploads", "prism-objects"
KINDS = ("memory", "local", "signing", "staging")
BINDS: dict[str, frozenset[Bindable]] = {
    "signing": frozenset({"create_only", "size", "content_type", "metadata", "sha256", "crc32c", "md5"}),
    "staging": frozenset({"content_type", "size"}),
}
"""What the stores that sign hold a sender to; the second cannot sign create-only."""


class Sent(msgspec.Struct, frozen=True):
    """What the server that a URL names said."""

    status: int
    text: str
    etag: str


class World:
    """One Prism with its clock, over one kind of store; `api` speaks its HTTP API."""

    def __init__(
        self, kind: str, running: Running, clock: ShiftedClock, api: httpx.AsyncClient, stores: list[Any]
    ) -> None:
        self.kind = kind
        self.running = running
        self.clock = clock
        self.api = api
        self._stores = stores

    async def create(self, key: str = "k", *, status: int = 201, **fields: Any) -> Any:
        """Declare an upload; the ticket, or the error."""
        answer = await self.api.post("/v1/uploads", json={"namespace": SPACE, "key": key, **fields})
        assert answer.status_code == status, answer.text
        return answer.json() if status == 201 else answer.json()["error"]

    async def ask(self, method: str, ticket: Any, tail: str = "", *, status: int = 200, body: Any = None) -> Any:
        """Something about an upload; the answer, or the error."""
        answer = await self.api.request(method, f"/v1/uploads/{ticket['upload_id']}{tail}", json=body)
        assert answer.status_code == status, answer.text
        if status == 204:
            return None
        return answer.json() if answer.is_success else answer.json()["error"]

    async def complete(self, ticket: Any, *, status: int = 200, **fields: Any) -> Any:
        """Complete it."""
        return await self.ask("POST", ticket, "/complete", status=status, body=fields)

    async def signed(self, ticket: Any, *numbers: int) -> list[Any]:
        """URLs of parts."""
        found: list[Any] = (await self.ask("POST", ticket, "/parts", body={"numbers": list(numbers)}))["parts"]
        return found

    async def send(self, ticket: Any, content: bytes, **headers: str) -> Sent:
        """The bytes, as the ticket (or a part's URL) says."""
        url, sent = ticket["url"], {**ticket["headers"], **headers}
        if url.startswith("memory:"):
            store = next(one for one in self._stores if url.startswith(one.address))
            answer = await store.driver.receive("PUT", url, sent, content)
            return Sent(answer.status, answer.content.decode(), answer.headers.get("etag", "").strip('"'))
        response = await self.api.put(url, content=content, headers=sent)
        return Sent(response.status_code, response.text, response.headers.get("etag", "").strip('"'))

    async def send_parts(self, ticket: Any, content: bytes) -> None:
        """All parts of an upload."""
        size = ticket["part_size_bytes"]
        for first in range(1, ticket["parts"] + 1, 100):
            for part in await self.signed(ticket, *range(first, min(first + 100, ticket["parts"] + 1))):
                piece = content[(part["number"] - 1) * size :][:size]
                assert len(piece) == part["size_bytes"]
                assert (await self.send(part, piece)).status == 200

    async def read(self, key: str = "k") -> bytes | None:
        """The object's content; None when there is none."""
        answer = await self.api.get(f"/v1/namespaces/{SPACE}/objects/{key}")
        assert answer.status_code in {200, 404}, answer.text
        return answer.content if answer.is_success else None

    async def until_clean(self, *, rounds: int = 20) -> None:
        """Let the janitor work until nothing of any upload is left but objects' bytes."""
        for _ in range(rounds):
            self.clock.forward(hours=6)
            report = await self.running.app.janitor.run_once()
            assert not report.failed, report
        space = self.running.app.namespaces.get(SPACE)
        referenced = await self.referenced()
        stored = {entry.key for entry in await space.store.list("", "", 1000)}
        assert stored == referenced | {space.layout.owner}
        for letter in "updqtg":
            assert not await self.rows(letter), letter

    async def referenced(self) -> set[str]:
        """The physical keys of the objects."""
        return {msgspec.json.decode(value)["physical_key"] for value in await self.rows("o")}

    async def rows(self, letter: str) -> list[bytes]:
        """The catalog's rows of a kind."""
        from prism.meta import tuples

        start, end = tuples.span((SPACE, letter))
        entries = await self.running.app.meta.read(lambda view: view.range(start, end, limit=1000))
        return [entry.value for entry in entries]


class _Store(msgspec.Struct, frozen=True):
    address: str
    driver: MemoryDriver


@contextlib.asynccontextmanager
async def world_over(
    kind: str, tmp_path: Path, wrap: Callable[[Driver], Driver] = lambda driver: driver, **limits: Any
) -> AsyncIterator[World]:
    """A Prism over this kind of store."""
    clock, stores = ShiftedClock(), list[_Store]()

    def in_place(driver: Driver) -> Driver:
        if kind not in BINDS:
            return wrap(ShiftedStore(driver, clock))
        address = f"memory://store-{len(stores)}"
        store = MemoryDriver(now=clock, signs=True, binds=BINDS[kind], address=address)
        stores.append(_Store(address, store))
        return wrap(store)

    overrides = {f"limits.{name}": str(value) for name, value in limits.items()}
    data_dir = tmp_path / "data" if kind == "local" else None
    overrides["namespaces.user-uploads.allow_infinite_ttl"] = "true"
    async with (
        running_app(now=clock, data_dir=data_dir, overrides=overrides, wraps=Wraps(blob=in_place)) as running,
        httpx.AsyncClient(base_url=running.http, timeout=30) as api,
    ):
        yield World(kind, running, clock, api, stores)
