"""The record of what each namespace's server was found able to do (`prism doctor`), kept in the catalog.

A record counts for the very place it was made at (endpoint, bucket, prefix): a namespace that moves is judged by what
its kind of store usually can, until it is examined again.
"""

from datetime import datetime

import msgspec

from .blob.found import Abilities
from .config import RemoteStore, StoreConfig
from .meta import Key, Meta, Txn, View

__all__ = ["recall", "record"]

_PARTITION = "~deployment"


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, where and when."""

    place: str
    examined_at: datetime
    abilities: Abilities


def _place(store: StoreConfig) -> str:
    if not isinstance(store, RemoteStore):
        return ""
    return f"{store.endpoint}|{store.bucket}|{store.prefix}"


def _key(namespace: str) -> Key:
    return (_PARTITION, "abilities", namespace)


async def record(meta: Meta, namespace: str, store: StoreConfig, abilities: Abilities, now: datetime) -> None:
    """Keep what was found; it counts from the next start on."""
    value = msgspec.json.encode(_Record(place=_place(store), examined_at=now, abilities=abilities))

    async def body(tx: Txn) -> None:
        tx.set(_key(namespace), value)

    await meta.transact(_PARTITION, body)


async def recall(meta: Meta, namespace: str, store: StoreConfig) -> Abilities | None:
    """What was found of this place; None when it was never examined. Local and memory stores need no record."""
    if not isinstance(store, RemoteStore):
        return None

    async def body(view: View) -> bytes | None:
        return await view.get(_key(namespace))

    value = await meta.read(body)
    if value is None:
        return None
    found = msgspec.json.decode(value, type=_Record)
    return found.abilities if found.place == _place(store) else None
