"""What every server is handed: the services, the configuration and the clock. Composed in `app.py`, never here."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import msgspec
from prometheus_client import CollectorRegistry

from ..access import Access
from ..config import Config
from ..objects import ObjectStore
from ..sessions import Sessions
from ..uploads import Uploads

__all__ = ["Services"]


class Services(msgspec.Struct, frozen=True, kw_only=True):
    """`ready` returns what is not ready, by name (empty: all is); `new_request_id` gives 26 to 32 characters."""

    config: Config
    access: Access
    objects: ObjectStore
    uploads: Uploads
    sessions: Sessions
    registry: CollectorRegistry
    ready: Callable[[], Awaitable[Mapping[str, str]]]
    now: Callable[[], datetime]
    new_request_id: Callable[[], str]
