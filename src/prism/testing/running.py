"""A whole Prism inside the test's process: real servers on free loopback ports over memory, or over a folder.

The clock, the drivers below their front doors and every setting are the test's. The janitor does nothing unless it is
asked (`app.janitor.run_once()`) or its role is named. Audit records are kept in `audit.records`.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from ..app import App, Wraps, open_app
from ..audit import MemoryAudit
from ..config import Config, load
from ..identifiers import utc_now
from ..serving.listening import listening

__all__ = ["Running", "config_for", "running_app"]

_NAMESPACES = ("user_uploads", "build_artifacts", "matyan_artifacts")


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is reached: `grpc` as `host:port`, `http` and `s3` as URLs; empty for roles that do not run."""

    app: App
    audit: MemoryAudit
    grpc: str
    http: str
    s3: str


def config_for(
    data_dir: Path, *, memory: bool, overrides: Mapping[str, str] | None = None, file: Path | None = None
) -> Config:
    """The embedded configuration (or a file's) on free loopback ports, kept in memory or below `data_dir`; `overrides`
    are settings by key path, as on the command line."""
    ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
    environment = {}
    if memory:
        environment = {f"PRISM_NAMESPACES__{name.upper()}__BACKEND": "memory" for name in _NAMESPACES if file is None}
        environment |= {"PRISM_META__URL": "memory:", "PRISM_BUS__URL": "memory:"}
    return load(file, environment, data_dir=data_dir, overrides={**ports, **(overrides or {})})


@contextlib.asynccontextmanager
async def running_app(
    *,
    data_dir: Path | None = None,
    overrides: Mapping[str, str] | None = None,
    config: Config | None = None,
    now: Callable[[], datetime] = utc_now,
    roles: frozenset[str] = frozenset({"api", "s3"}),
    wraps: Wraps | None = None,
) -> AsyncIterator[Running]:
    """Serve inside the running event loop until the block is left.

    In memory, with the three embedded namespaces, unless `data_dir` names a folder (local files and SQLite, as `prism
    serve` has them) or a whole `config` is given. `overrides` are settings by key path.
    """
    with tempfile.TemporaryDirectory(prefix="prism-test-") as spare:
        folder = data_dir or Path(spare)
        config = config or config_for(folder, memory=data_dir is None, overrides=overrides)
        audit = MemoryAudit()
        async with (
            open_app(config, now=now, audit=audit, wraps=wraps) as app,
            listening(app, roles) as serving,
        ):
            found = serving.endpoints
            yield Running(
                app=app, audit=audit, grpc=found.get("grpc", ""), http=found.get("http", ""), s3=found.get("s3", "")
            )
