"""A process that does all background work there is, days ahead, and plants something for each kind of it first.

`python background.py CONFIG DATA_DIR DAYS`: failpoints are armed once everything is open, so that the work is what is
interrupted. Prints `done` when it came to its end.
"""

import asyncio
import os
import sys
from datetime import timedelta
from pathlib import Path

from shifted import opened_ahead

from prism.blob.driver import WriteOptions
from prism.bus import Message
from prism.catalog import uploads
from prism.failpoints import arm_from
from prism.holding import new_promise
from prism.workers.fsck import fsck

BIG = b"\x00\xffbig" * 100_000


async def main(config, data_dir, days):
    async with opened_ahead(config, data_dir, days) as app:
        await promises_of_the_dead(app)
        await stray_bytes(app)
    async with opened_ahead(config, data_dir, days + 1) as app:
        arm_from(os.environ)
        for number in range(2):
            await app.bus.publish("crash-test", [Message(key=f"{number}", value=BIG)])
        report = await app.janitor.run_once()
        assert not report.failed, report
        for space in app.namespaces:
            await fsck(space, repair=True)
    print("done")


async def promises_of_the_dead(app):
    """Writers that died after their promise, two in each namespace."""
    for space in app.namespaces:
        for number in range(2):
            promise = new_promise(
                space, space.bucket(""), f"died/{number}", content_type="", metadata={}, ttl_seconds=None
            )
            await space.meta.transact(space.name, lambda tx, p=promise, s=space: uploads.promise(tx, s.rules, p))


async def stray_bytes(app):
    """Bytes that nobody names, in each namespace; their process ends in order, so the catalog knows that they are
    garbage."""

    async def chunks():
        yield b"stray"

    for space in app.namespaces:
        key = space.layout.physical(space.bucket(""), "stray/key", space.new_version_id())
        await space.store.put(key, chunks(), WriteOptions())


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), timedelta(days=int(sys.argv[3])).days))
