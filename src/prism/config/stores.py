"""Stores and URLs: which backend takes which settings, what its endpoint is in full, and passwords out of URLs."""

from collections.abc import Mapping
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from ..errors import ErrorCode, PrismError
from .settings import Given, Tree, refused
from .types import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store, StoreConfig

__all__ = ["STORES", "split_password", "with_endpoint"]

STORES: Mapping[str, type[LocalStore | MemoryStore | S3Store | GCSStore | AzureStore]] = {
    "minio": S3Store,
    "s3": S3Store,
    "gcs": GCSStore,
    "azure": AzureStore,
    "local": LocalStore,
    "memory": MemoryStore,
}
_AMAZON = "s3.amazonaws.com"


def with_endpoint(store: StoreConfig, backend: str, at: str) -> StoreConfig:
    """The store with its endpoint as a whole URL (empty: the cloud's own) and `use_ssl` decided."""
    if isinstance(store, LocalStore | MemoryStore):
        return store
    if isinstance(store, S3Store):
        _check_s3(store, backend, at)
    endpoint, scheme = store.endpoint, ""
    if "://" in endpoint:
        scheme, _, endpoint = endpoint.partition("://")
    use_ssl = _use_ssl(store, backend, scheme, at)
    if backend == "s3" and isinstance(store, S3Store) and endpoint.rstrip("/") in {"", _AMAZON}:
        endpoint = f"s3.{store.region}.amazonaws.com"
    if not endpoint:
        return msgspec.structs.replace(store, use_ssl=use_ssl)
    url = f"{'https' if use_ssl else 'http'}://{endpoint.rstrip('/')}"
    parts = _split(url)
    if parts is None or not parts.hostname or parts.username is not None or parts.query or parts.fragment:
        raise refused(
            f"{at}.endpoint", Given(store.endpoint, "given"), "host:port or a URL without user, query, fragment"
        )
    return msgspec.structs.replace(store, endpoint=url, use_ssl=use_ssl)


def _check_s3(store: S3Store, backend: str, at: str) -> None:
    if (store.access_key is None) != (store.secret_key is None):
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, f"{at}: access_key and secret_key are given together or not at all"
        )
    if backend == "minio" and not store.endpoint:
        what = "is missing; allowed: host:port or a URL, also by PRISM_OBJECTSTORE_ENDPOINT"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}.endpoint {what}", context={"key": f"{at}.endpoint"})


def _use_ssl(store: S3Store | GCSStore | AzureStore, backend: str, scheme: str, at: str) -> bool:
    if scheme and scheme not in {"http", "https"}:
        raise refused(f"{at}.endpoint", Given(store.endpoint, "given"), "host:port, http://… or https://…")
    by_scheme = {"http": False, "https": True}.get(scheme)
    if store.use_ssl is not None and by_scheme is not None and by_scheme != store.use_ssl:
        what = f"use_ssl is {str(store.use_ssl).lower()}, but the endpoint says {scheme}://: let them agree"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}: {what}")
    wanted = by_scheme if store.use_ssl is None else store.use_ssl
    if backend == "s3" and wanted is False:
        what = "backend s3 always uses TLS; allowed: use_ssl true (backend minio speaks to servers without TLS)"
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, f"{at}.use_ssl: got false; {what}", context={"key": f"{at}.use_ssl"}
        )
    return backend != "minio" if wanted is None else wanted


def split_password(section: Tree, at: str) -> None:
    """Move a password that stands in the section's `url` to its `password`."""
    given = section.get("url")
    if given is None or not isinstance(given.value, str):
        return
    parts = _split(given.value)
    if parts is None:
        raise refused(f"{at}.url", given, "a URL")
    if parts.password is None:
        return
    if section.keys() & {"password", "password_env", "password_file"}:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}.password stands in {at}.url too: keep one")
    netloc = f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}"
    section["url"] = Given(parts._replace(netloc=netloc).geturl(), given.source, given.text)
    section["password"] = Given(unquote(parts.password), given.source, text=True)


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url)
        return parts if parts.port is None or parts.port >= 0 else None
    except ValueError:
        return None
