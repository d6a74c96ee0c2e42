"""Whose the stores are: looked at before anything is done to them.

A store of another deployment is refused, and the start with it. A remote store that cannot be asked at the start keeps
nobody else from being served: its own namespace answers STORE_DOWN and is not ready until it could be asked, which is
tried again and again. Nothing is written to a store, and no URL of it given away, before it is known to be ours.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec
import structlog

from .config import RemoteStore
from .deployment import Deployment, claim
from .errors import ErrorCode, PrismError
from .namespaces import Namespace
from .walking import holds_unknown

__all__ = ["claimed"]

_FIRST_SECONDS = 10.0
_AGAIN_SECONDS = 5.0
log = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def claimed(space: Namespace, deployment: Deployment) -> AsyncIterator[Namespace]:
    """The namespace, its store claimed, or closed until that is possible.

    Errors: PERMISSION_DENIED (the store is another's), STORE_DOWN (a local one cannot be used).
    """
    one = _Claim(space, deployment)
    await one.make()
    if one.trouble is None:
        yield space
        return
    if one.trouble.code is not ErrorCode.STORE_DOWN or not isinstance(space.config.store, RemoteStore):
        raise one.trouble
    log.warning("store.not_claimed", namespace=space.name, reason=one.trouble.message)
    trying = asyncio.ensure_future(one.keep_trying())
    try:
        yield msgspec.structs.replace(space, store=space.store.behind(one.check))
    finally:
        trying.cancel()
        await asyncio.wait([trying])


class _Claim:
    """One namespace's claim on its store. `trouble`: why it has none yet."""

    def __init__(self, space: Namespace, deployment: Deployment) -> None:
        self.trouble: PrismError | None = None
        self._space = space
        self._deployment = deployment

    async def make(self) -> None:
        """Try once, for a bounded time."""
        try:
            async with asyncio.timeout(_FIRST_SECONDS):
                await self._refuse_unknown()
                space = self._space
                await claim(space.store, space.layout.owner, self._deployment, space.name, space.now())
        except PrismError as error:
            self.trouble = self._named(error)
        except TimeoutError:
            self.trouble = self._named(PrismError(ErrorCode.STORE_DOWN, "the store does not answer in time"))
        else:
            self.trouble = None

    async def keep_trying(self) -> None:
        """Until the store is ours."""
        while self.trouble is not None:
            await asyncio.sleep(_AGAIN_SECONDS)
            await self.make()
        log.info("store.claimed", namespace=self._space.name)

    def check(self) -> None:
        """STORE_DOWN while the store is not known to be ours."""
        if self.trouble is not None:
            raise PrismError(ErrorCode.STORE_DOWN, self.trouble.message)

    async def _refuse_unknown(self) -> None:
        """A store without a marker whose bytes the catalog does not know: catalog and marker were lost, or it is
        another's. Claimed, its bytes would be taken for garbage."""
        space = self._space
        if await space.store.head(space.layout.owner) is None and await holds_unknown(space):
            what = "its store holds blobs that this catalog does not know; restore its catalog, or name another place"
            raise PrismError(ErrorCode.PERMISSION_DENIED, what)

    def _named(self, error: PrismError) -> PrismError:
        begin = f"namespaces.{self._space.name}: "
        said = error.message if error.message.startswith(begin) else f"{begin}{error.message}"
        return PrismError(error.code, said, context=error.context)
