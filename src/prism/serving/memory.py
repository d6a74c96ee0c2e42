"""Memory that nobody needs any more is given back to the machine.

Requests that were broken off leave their buffers in cycles, which the collector finds only while others allocate; and
freed buffers leave gaps in the C library's heaps, which glibc returns only when asked to. Where the library cannot be
asked (musl, macOS) nothing is done.
"""

import asyncio
import ctypes
import gc

__all__ = ["give_back"]

_PAUSE_SECONDS = 5.0


async def give_back() -> None:
    """Ask for it again and again: a fraction of a millisecond when there is nothing, some when a crowd has left."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(_PAUSE_SECONDS)
        gc.collect()
        await asyncio.to_thread(trim, 0)
