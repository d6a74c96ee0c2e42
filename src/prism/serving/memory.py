"""Memory that the C library keeps for later is given back to the machine.

Buffers of many slow callers leave gaps in its heaps when they are freed; glibc returns those only when asked to. Where
the library cannot be asked (musl, macOS) nothing is done.
"""

import asyncio
import ctypes

__all__ = ["give_back"]

_PAUSE_SECONDS = 5.0


async def give_back() -> None:
    """Ask for it again and again, beside the loop: microseconds when there is nothing, else some milliseconds."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    while trim is not None:
        await asyncio.sleep(_PAUSE_SECONDS)
        await asyncio.to_thread(trim, 0)
