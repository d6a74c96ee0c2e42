"""What is allowed on its own and refused together: unsafe binds, shared stores, horizons that lose messages."""

import ipaddress
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from ..errors import ErrorCode, PrismError
from .settings import shown
from .types import AzureStore, Config, Endpoint, GCSStore, LocalStore, MemoryStore, NamespaceConfig, S3Store

__all__ = ["check", "without_effect"]

_META_SCHEMES = ("sqlite:///", "postgresql://", "fdb:///", "memory:")
_BUS_SCHEMES = ("log:", "kafka://", "memory:")
_READ_LATER = ("runs.presign_seconds", "runs.replay_horizon_days", "runs.anonymous", "tokens.keys")
"""Checked, but read only by the run API, which is not there yet."""


def check(config: Config) -> None:
    """INVALID_ARGUMENT for the first combination that is not safe."""
    for look in (_urls, _endpoints, _cors, _lifetimes, _access_keys, _stores, _runs):
        look(config)


def without_effect(config: Config) -> list[str]:
    """What was set although nothing reads it yet; a start says so, instead of letting it look obeyed."""
    return [at for at in _READ_LATER if at in config.sources]


def _refuse(at: str, what: str) -> PrismError:
    return PrismError(ErrorCode.INVALID_ARGUMENT, f"{at}: {what}", context={"key": at})


def _urls(config: Config) -> None:
    for at, url, schemes in (("meta.url", config.meta.url, _META_SCHEMES), ("bus.url", config.bus.url, _BUS_SCHEMES)):
        scheme = next((scheme for scheme in schemes if url.startswith(scheme)), "")
        exact = scheme.endswith(":")
        if not scheme or (url != scheme) == exact:
            forms = (f"{scheme}…" if scheme.endswith("/") else scheme for scheme in schemes)
            raise _refuse(at, f"got {shown(url)}; allowed: {', '.join(forms)}")


def _endpoints(config: Config) -> None:
    server, taken = config.server, set()
    for name, endpoint in (("grpc", server.grpc), ("http", server.http), ("s3", server.s3)):
        at = f"server.{name}.address"
        if endpoint.port > 65_535:
            raise _refuse(at, f"got {shown(endpoint.address)}; allowed: a port from 0 to 65535")
        if config.auth.mode is None and not _is_loopback(endpoint):
            what = "without auth only 127.0.0.0/8, [::1] and localhost are bound, because everybody may do everything"
            raise _refuse(at, f"got {shown(endpoint.address)}; {what}; configure auth, or say `auth: open`")
        if endpoint.port and endpoint.address in taken:
            raise _refuse(
                at, f"got {shown(endpoint.address)}, which another server has; allowed: an address of its own"
            )
        taken.add(endpoint.address)


def _is_loopback(endpoint: Endpoint) -> bool:
    try:
        address = ipaddress.ip_address(endpoint.host)
    except ValueError:
        return endpoint.host.lower() == "localhost"
    return address.is_loopback if isinstance(address, ipaddress.IPv4Address) else address == ipaddress.IPv6Address(1)


def _cors(config: Config) -> None:
    if "*" in config.server.cors_origins and config.auth.mode is None:
        what = "with it any web page that a user of this machine visits could read and change everything"
        raise _refuse("server.cors_origins", f"got *; {what}; name the origins, or say `auth: open`")


def _lifetimes(config: Config) -> None:
    for space in config.namespaces:
        at = f"namespaces.{space.name}.no_expiration_default"
        if space.no_expiration_default and not space.allow_infinite_ttl:
            raise _refuse(at, "got true; needs allow_infinite_ttl: true")
        if space.no_expiration_default and space.default_ttl_seconds is not None:
            raise _refuse(at, f"got true beside default_ttl_seconds {space.default_ttl_seconds}; keep one")


def _access_keys(config: Config) -> None:
    for one, other in combinations(config.namespaces, 2):
        if one.s3_access_key == other.s3_access_key:
            what = f"namespace {one.name!r} has the same; an access key belongs to one namespace"
            raise _refuse(f"namespaces.{other.name}.s3_access_key", f"got {shown(other.s3_access_key)}; {what}")


def _stores(config: Config) -> None:
    for space in config.namespaces:
        if isinstance(space.store, LocalStore):
            root = space.store.root.resolve()
            for kept in (config.data_dir.resolve(), config.audit.path.resolve()):
                if kept.is_relative_to(root):
                    what = f"got {shown(str(space.store.root))}, which contains {shown(str(kept))}"
                    raise _refuse(f"namespaces.{space.name}.root", f"{what}; allowed: a folder for blobs alone")
    for one, other in combinations(config.namespaces, 2):
        shared = [place for place in _places(one) for taken in _places(other) if _overlap(place, taken)]
        if shared:
            what = f"its bytes lie at {shown(shared[0])}, where those of namespace {one.name!r} lie"
            raise _refuse(f"namespaces.{other.name}", f"{what}; give one another bucket, prefix or root")


def _places(space: NamespaceConfig) -> Iterator[str]:
    """Where the namespace's bytes lie, as a path that ends in a slash."""
    match space.store:
        case LocalStore(root=root):
            yield f"file:{_slashed(root.resolve())}"
        case S3Store() as store:
            yield f"{store.endpoint.partition('://')[2]}/{store.bucket}/{store.prefix}"
        case GCSStore() as store:
            yield f"gcs:{store.endpoint.partition('://')[2]}/{store.bucket}/{store.prefix}"
        case AzureStore() as store:
            yield f"azure:{store.access_key}:{store.endpoint.partition('://')[2]}/{store.bucket}/{store.prefix}"
        case MemoryStore():
            return


def _slashed(path: Path) -> str:
    return f"{str(path).rstrip('/')}/"


def _overlap(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def _runs(config: Config) -> None:
    named = config.runs.namespace
    if "runs.namespace" in config.sources and named not in {space.name for space in config.namespaces}:
        known = ", ".join(space.name for space in config.namespaces)
        raise _refuse("runs.namespace", f"got {shown(named)}, which is no namespace; allowed: {known}")
    if config.runs.replay_horizon_days * 24 <= config.bus.retention_hours:
        what = f"messages live {config.bus.retention_hours} hours; allowed: more than that"
        raise _refuse("runs.replay_horizon_days", f"got {config.runs.replay_horizon_days} days, but {what}")
