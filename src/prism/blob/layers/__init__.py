"""Layers: a driver round a driver, composed in one line: `Observe(Retry(Limit(Timeout(driver))))`.

The order, once: a retry gets a fresh deadline and takes its slot anew, so a call that backs off holds none; waiting for
a slot does not count as the store's slowness; what is observed is what the caller waited for, retries included. A local
or memory store is observed only: there is no network to wait for, and a 4 KiB put must not pay for four wrappers. No
layer holds more than one piece of a stream, but `Retry`, which holds a small body whole to send it again; a caller's
stream is never asked for twice.
"""

from .guarding import Guarded
from .layer import Layer
from .limiting import Limit
from .observing import Observe, StoreMetrics
from .retrying import Retry, is_transient
from .timing import Timeout

__all__ = ["Guarded", "Layer", "Limit", "Observe", "Retry", "StoreMetrics", "Timeout", "is_transient"]
