"""Stores and URLs: which backend takes which settings, what its endpoint is in full, and passwords out of URLs."""

import re
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from ..errors import ErrorCode, PrismError
from ..redaction import is_secret_name
from .settings import Given, Tree, refused
from .types import AzureStore, GCSStore, LocalStore, MemoryStore, RemoteStore, S3Store, StoreConfig

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
_ALLOWED_SCHEMES = "host:port, http://… or https://…"
_HOST = re.compile(r"[^\x00-\x20\x7f<>\"\\^`{|}]+\Z")
_UNSPLIT = re.compile(r"//[^@]*:[^@]*@", re.DOTALL)


def with_endpoint(store: StoreConfig, backend: str, at: str) -> StoreConfig:
    """The store with its endpoint as a whole URL (empty: the cloud's own) and `use_ssl` decided."""
    if isinstance(store, LocalStore | MemoryStore):
        return store
    if isinstance(store, S3Store):
        store = _checked_s3(store, backend, at)
    endpoint, scheme = store.endpoint, ""
    if "://" in endpoint:
        scheme, _, endpoint = endpoint.partition("://")
    use_ssl = _use_ssl(store, backend, scheme, at)
    if backend == "s3" and isinstance(store, S3Store) and endpoint.rstrip("/") in {"", _AMAZON}:
        endpoint = f"s3.{store.region}.amazonaws.com"
    _check_authorities(store, at)
    return msgspec.structs.replace(
        store,
        endpoint=_url(endpoint, use_ssl, f"{at}.endpoint", store.endpoint),
        public_endpoint=_public(store, use_ssl, at),
        use_ssl=use_ssl,
    )


def _check_authorities(store: RemoteStore, at: str) -> None:
    """A file of certificates that cannot be read would only be noticed by every single request."""
    if store.ca_file is None:
        return
    try:
        ssl.create_default_context(cafile=str(store.ca_file))
    except OSError as error:  # also what the TLS library makes of a file without certificates
        what = "a readable file of certificates (PEM)"
        raise refused(f"{at}.ca_file", Given(str(store.ca_file), "given"), what) from error


def _public(store: RemoteStore, use_ssl: bool, at: str) -> str:
    """A URL of its own may have another scheme than the server's: a proxy in front of it may speak TLS."""
    scheme, separator, host = store.public_endpoint.partition("://")
    if not separator:
        return _url(store.public_endpoint, use_ssl, f"{at}.public_endpoint", store.public_endpoint)
    if scheme not in {"http", "https"}:
        raise refused(f"{at}.public_endpoint", Given(store.public_endpoint, "given"), _ALLOWED_SCHEMES)
    return _url(host, scheme == "https", f"{at}.public_endpoint", store.public_endpoint)


def _url(host: str, use_ssl: bool, at: str, given: str) -> str:
    """A server's whole URL; empty for none."""
    if not host:
        return ""
    url = f"{'https' if use_ssl else 'http'}://{host.rstrip('/')}"
    parts = _split(url)
    if parts is None or not _is_server(parts):
        raise refused(at, Given(given, "given"), "host:port or a URL without user, query, fragment")
    return url


def _checked_s3(store: S3Store, backend: str, at: str) -> S3Store:
    if (store.access_key is None) != (store.secret_key is None):
        raise PrismError(
            ErrorCode.INVALID_ARGUMENT, f"{at}: access_key and secret_key are given together or not at all"
        )
    if backend == "minio" and not store.endpoint:
        what = "is missing; allowed: host:port or a URL, also by PRISM_OBJECTSTORE_ENDPOINT"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}.endpoint {what}", context={"key": f"{at}.endpoint"})
    if store.access_key is not None and (store.credentials_file is not None or store.profile is not None):
        what = "access_key stands beside credentials_file or profile: keep one way to the credentials"
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}: {what}")
    if store.session_token is not None and store.access_key is None:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}: session_token belongs to access_key, which is missing")
    if store.kms_key is not None and store.encryption != "aws:kms":
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}: kms_key needs encryption: aws:kms")
    style = backend == "minio" if store.path_style is None else store.path_style
    return msgspec.structs.replace(store, path_style=style)


def _use_ssl(store: RemoteStore, backend: str, scheme: str, at: str) -> bool:
    if scheme and scheme not in {"http", "https"}:
        raise refused(f"{at}.endpoint", Given(store.endpoint, "given"), _ALLOWED_SCHEMES)
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
    if any(is_secret_name(name) for name, _ in parse_qsl(parts.query)):
        raise refused(f"{at}.url", given, f"no secret in the query; give it as {at}.password", hidden=True)
    if parts.password is None:
        if parts.netloc and _UNSPLIT.search(given.value):
            raise refused(f"{at}.url", given, "a URL whose password is percent-encoded", hidden=True)
        return
    if section.keys() & {"password", "password_env", "password_file"}:
        raise PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}.password stands in {at}.url too: keep one")
    netloc = f"{parts.username or ''}@{parts.netloc.rpartition('@')[2]}"
    section["url"] = Given(parts._replace(netloc=netloc).geturl(), given.source, given.text)
    section["password"] = Given(unquote(parts.password), given.source, text=True)


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:
        return None


def _is_server(parts: SplitResult) -> bool:
    """A host, perhaps a port and a path, nothing else."""
    try:
        port = parts.port
    except ValueError:
        return False
    return (
        bool(_HOST.match(parts.hostname or ""))
        and parts.username is None
        and not (parts.query or parts.fragment)
        and port != 0
    )
