"""Every kind of real store by its name, and a Prism whose namespaces lie in some of them."""

import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import azure_containers
import gcs_buckets
import msgspec
import s3_buckets
from gcs_front import front

from prism.app import Wraps
from prism.config import AzureStore, Config, GCSStore, RemoteStore, S3Store, Secret, load
from prism.testing.running import Running, running_app
from prism.testing.services import service

__all__ = ["KINDS", "config_on", "prism_on", "real_store"]

KINDS = ("minio", "versitygw", "gcs", "azure")


@contextlib.asynccontextmanager
async def real_store(kind: str, **settings: Any) -> AsyncIterator[RemoteStore]:
    """An empty bucket or container of the test's own. `gcs` signs, behind a front that verifies what was signed."""
    if kind == "azure":
        async with azure_containers.new_container(service("azurite"), **settings) as container:
            yield container
    elif kind == "gcs":
        private, key = gcs_buckets.account()
        with front(service("gcs").url, private.public_key()) as url:
            given = {"endpoint": url, "credentials": key} | settings
            async with gcs_buckets.new_bucket(service("gcs"), **given) as bucket:
                yield bucket
    else:
        async with s3_buckets.new_bucket(service(kind), **settings) as s3:  # type: ignore[arg-type]  # one of KINDS
            yield s3


def config_on(stores: Mapping[str, RemoteStore], folder: Path, **settings: Any) -> Config:
    """The configuration, read from a file, of one namespace per store; `settings` are further top-level sections."""
    namespaces = [{"name": name, "backend": _backend(store), "config": _told(store)} for name, store in stores.items()]
    told = {"namespaces": namespaces, "runs": {"namespace": next(iter(stores))}, **settings}
    file = folder / "prism.json"
    file.write_text(json.dumps(told))
    ports = {f"server.{name}.address": "127.0.0.1:0" for name in ("grpc", "http", "s3")}
    return load(file, {}, data_dir=folder / "data", overrides=ports)


@contextlib.asynccontextmanager
async def prism_on(
    stores: Mapping[str, RemoteStore], folder: Path, *, wraps: Wraps | None = None, **settings: Any
) -> AsyncIterator[Running]:
    """Prism over these stores, with its catalog below `folder`; start it again there and it goes on."""
    config = config_on(stores, folder, **settings)
    async with running_app(data_dir=folder / "data", config=config, wraps=wraps) as running:
        yield running


def _backend(store: RemoteStore) -> str:
    match store:
        case S3Store():
            return "minio"
        case GCSStore():
            return "gcs"
        case AzureStore():
            return "azure"
    raise ValueError(type(store).__name__)


def _told(store: RemoteStore) -> dict[str, Any]:
    """What a file says of a store, secrets and all."""
    found = {name: getattr(store, name) for name in store.__struct_fields__}
    return {name: _plain(value) for name, value in found.items() if value not in (None, "")}


def _plain(value: Any) -> Any:
    if isinstance(value, Secret):
        return value.reveal()
    return msgspec.to_builtins(str(value) if isinstance(value, Path) else value)
