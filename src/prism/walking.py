"""What walks over a namespace's store share: the check, imports and rebuilds all read it in the order of its keys.

Reports count what was found by kind, and name the first few keys of the kinds that somebody should look at. Memory is
bounded whatever lies in the store.
"""

import msgspec

from .blob.driver import BlobEntry
from .catalog import sweep
from .catalog.sweep import Name, Stray
from .keys import OWNER, Parsed
from .meta import View
from .metadata import KEY_FIELD
from .namespaces import Namespace

__all__ = ["SAMPLES", "Findings", "WalkReport", "holds_unknown", "root_of", "stray_of", "unheard"]

SAMPLES = 20
_FIRST = 200


class Findings(msgspec.Struct):
    """Of one kind: how many keys, their bytes, and the first few."""

    count: int = 0
    size_bytes: int = 0
    samples: list[str] = []

    def note(self, key: str, size_bytes: int, *, shown: bool) -> None:
        """Count one key; `shown`: among the first few it is named, too."""
        self.count += 1
        self.size_bytes += size_bytes
        if shown and len(self.samples) < SAMPLES:
            self.samples.append(key)


class WalkReport(msgspec.Struct, kw_only=True):
    """What a walk that can be gone on with found, by kind; of a dry run: what would be done."""

    namespace: str
    dry_run: bool
    kinds: dict[str, Findings]
    went_on_after: str = ""
    """The physical key at which an earlier run was interrupted; its findings are not counted again."""
    at: str = ""
    """How far the walk has come."""


def unheard(report: WalkReport) -> None:
    """Nobody watches."""


def root_of(space: Namespace) -> str:
    """What every physical key of the namespace begins with."""
    return space.layout.owner.removesuffix(OWNER)


async def stray_of(space: Namespace, entry: BlobEntry, parsed: Parsed) -> Stray | None:
    """What a listed key of Prism's form says. A key too long to be written in full stands in the store's metadata;
    None when it does not."""
    key = parsed.key
    if key is None:
        info = await space.store.head(entry.key)
        key = "" if info is None else info.metadata.get(KEY_FIELD, "")
        if not key or space.layout.place(parsed, key) != entry.key:
            return None
    return Stray(
        physical_key=entry.key,
        bucket=parsed.bucket,
        key=key,
        version_id=parsed.version_id,
        size_bytes=entry.size_bytes,
        store_etag=entry.etag,
    )


async def holds_unknown(space: Namespace) -> bool:
    """Whether bytes of Prism's form lie in the store and the catalog names none of the first of them."""
    strays: list[Stray] = []
    for entry in await space.store.list(root_of(space), "", _FIRST):
        parsed = space.layout.parse(entry.key)
        if parsed is not None and (stray := await stray_of(space, entry, parsed)) is not None:
            strays.append(stray)

    async def body(view: View) -> list[Name | None]:
        return await sweep.names(view, space.rules, strays)

    return bool(strays) and not any(await space.meta.read(body))
