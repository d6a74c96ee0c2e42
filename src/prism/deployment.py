"""Who owns what: the deployment's identity in the catalog, and the marker in each store that says whose bytes lie
there.

The catalog holds one deployment id and the key of continuation tokens, made once, in a partition of their own. Each
store carries `~owner`, the one key without a row: deployment and namespace. A store that another deployment or
namespace owns is refused before anything is written to it. A marker is changed by `take_over` alone, for an operator
who names the deployment that is gone for good.
"""

import secrets
from collections.abc import AsyncIterator
from datetime import datetime

import msgspec

from .blob import BlobStore
from .blob.driver import AlreadyExists, NotFound, WriteOptions
from .errors import ErrorCode, PrismError
from .failpoints import failpoint
from .meta import Meta, Txn, View

__all__ = ["RESTORE_KEY", "UNOWNED", "Deployment", "Owner", "claim", "identify", "is_mine", "owner_of", "take_over"]

_PARTITION = "~deployment"
_KEY = (_PARTITION, "identity")
RESTORE_KEY = ("~restore", "state")
"""Stands in a catalog while a restore fills it."""
_MAX_MARKER_BYTES = 4096
UNOWNED = "none"
"""What an operator calls the owner of a store without a marker."""


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """One catalog and everything that belongs to it. `continuation_key` is hex of 32 bytes."""

    id: str
    created_at: datetime
    continuation_key: str


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """What a marker says."""

    deployment: str
    namespace: str
    claimed_at: datetime


async def identify(meta: Meta, now: datetime) -> Deployment:
    """The deployment of this catalog; the first caller of a new catalog names it. PRECONDITION_FAILED while a restore
    into it is unfinished."""

    async def look(view: View) -> list[bytes | None]:
        return await view.get_many([_KEY, RESTORE_KEY])

    value, restoring = await meta.read(look)
    if restoring is not None:
        what = "a restore of the catalog was begun and not finished; run prism catalog restore with the same file again"
        raise PrismError(ErrorCode.PRECONDITION_FAILED, what)
    if value is None:
        fresh = Deployment(id=secrets.token_hex(16), created_at=now, continuation_key=secrets.token_hex(32))
        value = await _keep_first(meta, msgspec.json.encode(fresh))
    return msgspec.json.decode(value, type=Deployment)


async def _keep_first(meta: Meta, fresh: bytes) -> bytes:
    async def body(tx: Txn) -> bytes:
        value = await tx.get(_KEY)
        if value is None:
            tx.set(_KEY, fresh)
        return value or fresh

    return await meta.transact(_PARTITION, body)


async def claim(store: BlobStore, marker: str, deployment: Deployment, namespace: str, now: datetime) -> None:
    """Mark a new store as this namespace's, at the key `marker`. PERMISSION_DENIED when it is somebody else's."""
    owner = await owner_of(store, marker)
    if owner is None:
        wanted = Owner(deployment=deployment.id, namespace=namespace, claimed_at=now)
        try:
            await store.put(marker, _once(msgspec.json.encode(wanted)), WriteOptions(content_type="application/json"))
        except AlreadyExists:
            pass
        else:
            return
        owner = await owner_of(store, marker)
    if owner is None or owner.deployment != deployment.id:
        whose = "" if owner is None else f" ({owner.deployment})"
        what = f"belongs to another deployment of Prism{whose}, whose catalog is not the one of meta.url; name that one"
        raise PrismError(ErrorCode.PERMISSION_DENIED, f"namespaces.{namespace}: its store {what}, or another place")
    if owner.namespace != namespace:
        what = f"belongs to namespace {owner.namespace!r} of this deployment; give each namespace a place of its own"
        raise PrismError(ErrorCode.PERMISSION_DENIED, f"namespaces.{namespace}: its store {what}")


async def is_mine(store: BlobStore, marker: str, deployment: Deployment, namespace: str) -> bool:
    """Whether the marker says that the store is this namespace's."""
    owner = await owner_of(store, marker)
    return owner is not None and (owner.deployment, owner.namespace) == (deployment.id, namespace)


async def take_over(
    store: BlobStore, marker: str, deployment: Deployment, namespace: str, of: str, now: datetime
) -> None:
    """Make the store of deployment `of` (`UNOWNED`: of nobody) this one's; from then on the former is refused.

    PERMISSION_DENIED when the marker names another deployment than `of`, or another namespace than this.
    """
    owner = await owner_of(store, marker)
    if owner is not None:
        said = f"belongs to namespace {owner.namespace!r} of deployment {owner.deployment}"
        if owner.namespace != namespace or owner.deployment != of:
            raise PrismError(ErrorCode.PERMISSION_DENIED, f"namespaces.{namespace}: its store {said}; nothing changed")
        (result,) = await store.delete_many([marker])
        if result.error is not None:
            raise result.error
        failpoint("deployment.take_over.after_delete")
    elif of != UNOWNED:
        what = f"has no marker; when it is nobody else's, take it over from {UNOWNED!r}"
        raise PrismError(ErrorCode.PERMISSION_DENIED, f"namespaces.{namespace}: its store {what}")
    await claim(store, marker, deployment, namespace, now)


async def owner_of(store: BlobStore, marker: str) -> Owner | None:
    """What the marker says; None when there is none."""
    try:
        opened = await store.get(marker, None, None)
    except NotFound:
        return None
    content = b""
    try:
        async for chunk in opened.body:
            content += chunk
            if len(content) > _MAX_MARKER_BYTES:
                break
        return msgspec.json.decode(content, type=Owner)
    except msgspec.DecodeError as error:
        raise PrismError(ErrorCode.PERMISSION_DENIED, f"the store's {marker} is not a marker of Prism") from error
    finally:
        await opened.body.aclose()


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
