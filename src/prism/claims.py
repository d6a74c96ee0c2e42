"""Whose the stores are: looked at before anything is done to them.

A store of another deployment is refused, and the start with it. A remote store that cannot be asked at the start keeps
nobody else from being served: its own namespace answers STORE_DOWN and is not ready until it could be asked, which is
tried again and again; one that turns out to be another's stays refused. Nothing is written to a store, and no URL of it
given away, before it is known to be ours. Of a remote bucket of ours the log says once what it does by itself.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence

import msgspec
import structlog

from .blob.bucket_notes import deletes_itself, keeps_deleted
from .config import RemoteStore
from .deployment import Deployment, claim
from .errors import ErrorCode, PrismError
from .namespaces import Namespace
from .walking import holds_unknown

__all__ = ["claimed"]

_TRY_SECONDS = 10.0
_AGAIN_SECONDS = 5.0
log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def claimed(spaces: Sequence[Namespace], deployment: Deployment) -> AsyncIterator[list[Namespace]]:
    """The namespaces, their stores claimed, or closed until that is possible.

    All stores are looked at at once, so that several silent ones cost the start no more time than one; they are claimed
    in order. Errors: PERMISSION_DENIED (a store is another's), STORE_DOWN (a local one cannot be used).
    """
    claims = [_Claim(space, deployment) for space in spaces]
    await asyncio.gather(*(one.look() for one in claims))
    for one in claims:
        await one.take()
    background = [asyncio.ensure_future(one.attend()) for one in claims if one.remote]
    try:
        yield [one.opened() for one in claims]
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)


class _Claim:
    """One namespace's claim on its store. `trouble`: why it has none yet."""

    def __init__(self, space: Namespace, deployment: Deployment) -> None:
        self.trouble: PrismError | None = None
        self.remote = isinstance(space.config.store, RemoteStore)
        self._space = space
        self._deployment = deployment

    def opened(self) -> Namespace:
        """The namespace, closed as long as there is trouble."""
        if self.trouble is None:
            return self._space
        return msgspec.structs.replace(self._space, store=self._space.store.behind(self.check))

    def check(self) -> None:
        """STORE_DOWN while the store is not known to be ours."""
        if self.trouble is not None:
            raise PrismError(ErrorCode.STORE_DOWN, self.trouble.message)

    async def look(self) -> None:
        """See, at the start, whether anything speaks against claiming it; nothing is written."""
        self.trouble = await self._tried(self._refuse_unknown())

    async def take(self) -> None:
        """Claim it, at the start, unless something spoke against it; raise what others must not be served beside."""
        if self.trouble is None:
            self.trouble = await self._tried(self._claim())
        if self.trouble is not None and not (self.remote and self.trouble.code is ErrorCode.STORE_DOWN):
            raise self.trouble

    async def attend(self) -> None:
        """Try until the store is ours; then tell what its bucket does by itself."""
        told = ""
        while self.trouble is not None:
            if self.trouble.message != told:
                told = self.trouble.message
                log.warning("store.not_claimed", namespace=self._space.name, reason=told)
            await asyncio.sleep(_AGAIN_SECONDS)
            self.trouble = await self._tried(self._refuse_unknown()) or await self._tried(self._claim())
            if self.trouble is None:
                log.info("store.claimed", namespace=self._space.name)
        await self._tried(self._tell_settings())

    async def _tried(self, work: Coroutine[object, object, None]) -> PrismError | None:
        """What keeps it from being done, in bounded time."""
        try:
            async with asyncio.timeout(_TRY_SECONDS):
                await work
        except PrismError as error:
            return self._named(error)
        except TimeoutError:
            return self._named(PrismError(ErrorCode.STORE_DOWN, "the store does not answer in time"))
        return None

    async def _refuse_unknown(self) -> None:
        """A store without a marker whose bytes the catalog does not know: catalog and marker were lost, or it is
        another's. Claimed, its bytes would be taken for garbage."""
        space = self._space
        await space.store.now()  # what answers tells what it is, and a driver may know it
        if await space.store.head(space.layout.owner) is None and await holds_unknown(space):
            what = "its store holds blobs that this catalog does not know; restore its catalog, or name another place"
            raise PrismError(ErrorCode.PERMISSION_DENIED, what)

    async def _claim(self) -> None:
        space = self._space
        await claim(space.store, space.layout.owner, self._deployment, space.name, space.now())

    async def _tell_settings(self) -> None:
        settings = await self._space.store.settings()
        for event, notes in (
            ("store.keeps_deleted", keeps_deleted(settings)),
            ("store.deletes", deletes_itself(settings)),
        ):
            if notes:
                said, advice = ("; ".join(getattr(note, part) for note in notes) for part in ("said", "advice"))
                log.warning(event, namespace=self._space.name, said=said, advice=advice)

    def _named(self, error: PrismError) -> PrismError:
        begin = f"namespaces.{self._space.name}: "
        said = error.message if error.message.startswith(begin) else f"{begin}{error.message}"
        return PrismError(error.code, said, context=error.context)
