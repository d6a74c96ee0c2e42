"""A process that does what operators do, one after the other, and goes on where an earlier one died.

`python operator_script.py HOME`: in HOME lies a deployment (`first`) whose catalog is about to be lost, over the stores
of `CONFIG`. The catalog is exported and restored several times; then a new deployment (`second`) takes the stores over,
rebuilds itself from them and imports what lay there besides. Prints `done` when it came to its end.
"""

import asyncio
import os
import sys
from pathlib import Path

from prism.adoption import Import, adopt
from prism.app import open_app
from prism.config import load
from prism.deployment import UNOWNED, identify, is_mine, owner_of, take_over
from prism.failpoints import arm_from
from prism.identifiers import utc_now
from prism.meta import open_meta
from prism.rebuilding import Rebuild, rebuild
from prism.snapshots import export, restore

NAMESPACES = ("one", "two", "three")
TIMES = range(3)


def config_of(home, name):
    """The configuration of a deployment over the stores of HOME, with a catalog of its own."""
    (home / name).mkdir(exist_ok=True)
    (home / "prism.yaml").write_text(
        "namespaces:\n"
        + "".join(f"  - {{name: {ns}, backend: local, bucket: {ns}-bucket, root: {home}/{ns}}}\n" for ns in NAMESPACES)
    )
    return load(home / "prism.yaml", {}, data_dir=home / name)


async def main(home):
    for number in TIMES:
        await exported(home, home / f"backup{number}.gz")
    for number in TIMES:
        await restored(home, number)
    await rebuilt(home)
    print("done")


async def exported(home, file):
    meta = await open_meta(config_of(home, "first").meta.url)
    if not file.exists():
        await export(meta, file, (await identify(meta, utc_now())).id, utc_now())
    await meta.close()


async def restored(home, number):
    done = home / f"restored{number}.done"
    if not done.exists():
        meta = await open_meta(config_of(home, f"restored{number}").meta.url)
        await restore(meta, home / f"backup{number}.gz")
        await meta.close()
        done.touch()


async def rebuilt(home):
    async with open_app(config_of(home, "second"), claims=False) as app:
        for space in app.namespaces:
            marker = space.layout.owner
            if not await is_mine(space.store, marker, app.deployment, space.name):
                owner = await owner_of(space.store, marker)
                of = UNOWNED if owner is None else owner.deployment
                await take_over(space.store, marker, app.deployment, space.name, of, utc_now())
        for space in app.namespaces:
            await rebuild(space, Rebuild(add=True))
        for space in app.namespaces:
            await adopt(space, Import())


if __name__ == "__main__":
    arm_from(os.environ)
    asyncio.run(main(Path(sys.argv[1])))
