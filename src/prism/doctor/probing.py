"""The doctor's hands: probe keys, what became of a call, and the findings so far.

A check is an async function of the probes that returns findings; `Probes.attempt` runs one in bounded time and turns
whatever goes wrong into a finding, so that one check never keeps the others from being tried.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime

import msgspec

from ..blob import BlobStore
from ..blob.driver import AlreadyExists, BadPart, EtagMismatch, NotFound, Signed, Stored, WriteOptions
from ..config import NamespaceConfig
from ..errors import PrismError
from ..keys import Layout
from ..model import Bindable
from .diagnosis import Finding, Outcome

__all__ = ["Answer", "Check", "Probes", "Send"]

_SECONDS = 60.0


class Answer(msgspec.Struct, frozen=True):
    """What a plain HTTP client got."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def good(self) -> bool:
        """2xx."""
        return 200 <= self.status < 300


Send = Callable[[str, Signed, bytes | None], Awaitable[Answer]]
"""Send method, URL and headers, body as any HTTP client would. Raises OSError when nothing answers."""


class Probes:
    """One namespace under examination. `now` is our clock, `new_id` gives version ids."""

    def __init__(
        self,
        space: NamespaceConfig,
        store: BlobStore,
        send: Send,
        *,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        origins: Iterable[str] = (),
    ) -> None:
        self.space = space
        self.store = store
        self.layout = Layout(space.bucket, getattr(space.store, "prefix", ""))
        self.send = send
        self.now = now
        self.origins = tuple(origins)
        self.able: dict[str, bool] = {}
        """What was found, by the names of `Abilities`."""
        self.binds: set[Bindable] = set()
        self._new_id = new_id
        self._keys: list[str] = []

    def key(self, purpose: str) -> str:
        """A fresh key that is removed at the end."""
        key = self.layout.staging(self.space.bucket, f"prism-doctor/{purpose}", self._new_id())
        self._keys.append(key)
        return key

    async def put(self, key: str, content: bytes, options: WriteOptions | None = None) -> Stored:
        """Write a probe."""
        return await self.store.put(key, _once(content), options or WriteOptions())

    async def read(self, key: str, etag: str | None = None) -> bytes:
        """Read a probe whole."""
        opened = await self.store.get(key, None, etag)
        try:
            return b"".join([chunk async for chunk in opened.body])
        finally:
            await opened.body.aclose()

    async def attempt(self, name: str, check: "Check") -> list[Finding]:
        """The findings of one check; what goes wrong in it is its finding."""
        try:
            async with asyncio.timeout(_SECONDS):
                return await check(self)
        except TimeoutError:
            said, advice = f"no answer within {_SECONDS:.0f} s", "look at the network between Prism and the store"
        except PrismError as error:
            said, advice = error.message, ""
        except (NotFound, EtagMismatch, AlreadyExists, BadPart) as error:
            said, advice = f"the store answered {type(error).__name__} where it should not have", ""
        except OSError as error:
            said, advice = f"no connection ({type(error).__name__})", ""
        return [Finding(check=name, outcome=Outcome.FAILED, said=said, advice=advice)]

    async def remove(self) -> list[Finding]:
        """Remove every probe, open uploads too, and look that none is left."""
        left = 0
        for key in self._keys:
            for upload in await self.store.open_multiparts(key):
                await self.store.abort_multipart(key, upload.upload)
        results = await self.store.delete_many(self._keys)
        for result in results:
            left += result.error is not None or await self.store.head(result.key) is not None
        if left:
            said = f"{left} of {len(self._keys)} probes could not be deleted"
            advice = "give the credentials the right to delete; `prism fsck` shows what is left"
            return [Finding(check="delete", outcome=Outcome.FAILED, said=said, advice=advice)]
        return [Finding(check="delete", outcome=Outcome.OK, said=f"{len(self._keys)} probes deleted")]


Check = Callable[[Probes], Awaitable[list[Finding]]]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
