"""Typed configuration: `load(path, environment) -> Config`; anything unknown or unsafe stops the start by name.

A file (YAML), the environment and the command line are laid over each other, in this order, over the embedded default;
what comes out is frozen, complete and checked, so nobody looks at the environment again. A secret is a `Secret`, which
shows itself to nobody but `reveal()`. Nothing is opened or contacted here.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from .settings import Secret, Settings

__all__ = [
    "AuditConfig",
    "AuthConfig",
    "AzureStore",
    "BusConfig",
    "Config",
    "Endpoint",
    "GCSStore",
    "JanitorConfig",
    "Limits",
    "LocalStore",
    "LogConfig",
    "MemoryStore",
    "MetaConfig",
    "NamespaceConfig",
    "RunsConfig",
    "S3Store",
    "Secret",
    "ServerConfig",
    "StoreConfig",
    "TLSConfig",
    "TokensConfig",
]

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0.001, le=86_400)]
Grace = Annotated[float, Meta(ge=0, le=2_592_000)]
Bytes = Annotated[int, Meta(ge=1, le=5 * 2**40)]
Days = Annotated[int, Meta(ge=1, le=3650)]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
BucketName = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", extra={"allowed": "3 to 63 of a-z 0-9 . -"})
]


class LocalStore(Settings, tag_field="kind", tag="local"):
    """Files below a folder of this machine."""

    root: Annotated[Path, Meta(description="Folder of the namespace's bytes; `{data_dir}/blobs/{name}` unless given.")]


class MemoryStore(Settings, tag_field="kind", tag="memory"):
    """Bytes in this process, gone with it: for tests."""


class S3Store(Settings, tag_field="kind", tag="s3"):
    """Any S3-compatible server (`backend: minio` and `backend: s3`). `endpoint` is a whole URL once loaded."""

    bucket: Annotated[BucketName, Meta(description="The store's bucket.")]
    endpoint: Annotated[Text | None, Meta(description="`host:port` or URL of the server.")] = None
    region: Annotated[Text, Meta(description="Region that signatures name.")] = "us-east-1"
    access_key: Annotated[Text | None, Meta(description="Access key; without one the cloud's default chain.")] = None
    secret_key: Annotated[Secret | None, Meta(description="Secret key that belongs to `access_key`.")] = None
    use_ssl: Annotated[bool | None, Meta(description="TLS to the server; `minio`: false, `s3`: always true.")] = None
    prefix: Annotated[str, Meta(description="Put in front of every physical key.")] = ""


class GCSStore(Settings, tag_field="kind", tag="gcs"):
    """A Google Cloud Storage bucket."""

    bucket: Annotated[BucketName, Meta(description="The store's bucket.")]
    endpoint: Annotated[Text | None, Meta(description="URL of the server; the cloud's own unless given.")] = None
    credentials: Annotated[Secret | None, Meta(description="Service account key (JSON); else the default chain.")] = (
        None
    )
    prefix: Annotated[str, Meta(description="Put in front of every physical key.")] = ""


class AzureStore(Settings, tag_field="kind", tag="azure"):
    """An Azure Blob Storage container (`bucket`)."""

    bucket: Annotated[BucketName, Meta(description="The container.")]
    account: Annotated[Text, Meta(description="The storage account; `access_key` is read as it.")]
    endpoint: Annotated[Text | None, Meta(description="URL of the server; the account's own unless given.")] = None
    secret_key: Annotated[Secret | None, Meta(description="The account's key; without one the default chain.")] = None
    prefix: Annotated[str, Meta(description="Put in front of every physical key.")] = ""


StoreConfig = LocalStore | MemoryStore | S3Store | GCSStore | AzureStore


class NamespaceConfig(Settings, kw_only=True):
    """One namespace. In a file its store's settings, `bucket` and `default_ttl_seconds` stand under `config:`."""

    name: str
    backend: Literal["minio", "s3", "gcs", "azure", "local", "memory"]
    store: StoreConfig
    bucket: BucketName
    """The namespace's own bucket, as callers name it."""
    pattern: Literal["objectstore"] = "objectstore"
    default_ttl_seconds: int | None = None
    allow_infinite_ttl: bool = False
    no_expiration_default: bool = False
    versioning: bool = False
    events: bool = False
    """Object events are recorded in the outbox."""
    max_object_bytes: Bytes | None = None
    """None: `limits.max_object_bytes`."""
    s3_access_key: str
    """The access key of this namespace at Prism's own S3 endpoint."""
    s3_secret: Secret


class Endpoint(Settings):
    """Where one server listens, and how it is reached from outside."""

    shorthand: ClassVar[str] = "address"

    address: str
    public_url: str | None = None

    @property
    def host(self) -> str:
        """Without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0: any free one."""
        return int(self.address.rpartition(":")[2])


class TLSConfig(Settings):
    """Certificate and key, PEM, of all servers."""

    cert_file: Path
    key_file: Path


class ServerConfig(Settings):
    """The three servers."""

    grpc: Endpoint = Endpoint(address="127.0.0.1:50051")
    http: Endpoint = Endpoint(address="127.0.0.1:8080")
    s3: Endpoint = Endpoint(address="127.0.0.1:8333")
    s3_region: Text = "us-east-1"
    cors_origins: tuple[str, ...] = ()
    shutdown_seconds: Seconds = 10
    tls: TLSConfig | None = None


class MetaConfig(Settings, kw_only=True):
    """The catalog. `url` never holds a password once loaded; it is in `password`."""

    url: Text
    password: Secret | None = None


class BusConfig(Settings):
    """The event log."""

    url: Text = "log:"
    password: Secret | None = None
    retention_hours: Count = 168


class RunsConfig(Settings):
    """The run API."""

    namespace: str = "matyan-artifacts"
    presign_seconds: Annotated[int, Meta(ge=1, le=3600)] = 3600
    replay_horizon_days: Days = 30
    anonymous: bool = False


class AuthConfig(Settings):
    """Who may call. Without `mode`: everybody, on loopback only."""

    shorthand: ClassVar[str] = "mode"

    mode: Literal["open"] | None = None


class Limits(Settings):
    """Bounds, graces and deadlines."""

    max_transfer_seconds: Seconds = 3600
    clock_skew_seconds: Grace = 5
    read_grace_seconds: Grace = 10
    overwrite_grace_seconds: Grace = 3600
    expiry_grace_seconds: Grace = 3600
    max_object_bytes: Bytes = 5 * 2**40
    metadata_bytes: Annotated[int, Meta(ge=0, le=65_536)] = 2048
    max_open_uploads_per_key: Annotated[int, Meta(ge=1, le=1000)] = 32
    request_seconds: Seconds = 30
    """Deadline of a request that moves no object bytes."""
    idle_seconds: Seconds = 60
    """A transfer or connection on which nothing moves for this long is ended."""
    min_transfer_bytes_per_second: Annotated[int, Meta(ge=0)] = 1024
    """A transfer that is slower than this on average is ended; 0: never."""
    max_header_bytes: Annotated[int, Meta(ge=4096, le=1_048_576)] = 65_536
    """All request headers together."""
    max_json_bytes: Annotated[int, Meta(ge=1024, le=67_108_864)] = 1_048_576
    """A request body that is not an object's bytes."""
    max_connections: Count = 1024
    """Open connections per server."""
    max_requests: Count = 512
    """Requests in progress per server; further ones are RATE_LIMITED."""


class TokensConfig(Settings):
    """Sealed blob tokens: the key ring, newest first."""

    keys: tuple[Secret, ...] = ()


class JanitorConfig(Settings):
    """Background work."""

    interval_seconds: Seconds = 5.0
    batch: Annotated[int, Meta(ge=1, le=5000)] = 500
    """Rows per transaction."""


class AuditConfig(Settings, kw_only=True):
    """The audit record."""

    path: Path
    reads: bool = True
    max_bytes: Annotated[int, Meta(ge=65_536, le=2**40)] = 256 * 2**20
    """Size at which the file is renamed to `.1` and a new one begun."""
    keep: Annotated[int, Meta(ge=1, le=1000)] = 8
    """How many renamed files are kept."""


class LogConfig(Settings):
    """The log on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Settings, kw_only=True):
    """Everything, checked. `sources` says where each setting that is no default came from."""

    data_dir: Path
    namespaces: tuple[NamespaceConfig, ...]
    server: ServerConfig = ServerConfig()
    meta: MetaConfig
    bus: BusConfig = BusConfig()
    runs: RunsConfig = RunsConfig()
    auth: AuthConfig = AuthConfig()
    limits: Limits = Limits()
    tokens: TokensConfig = TokensConfig()
    janitor: JanitorConfig = JanitorConfig()
    audit: AuditConfig
    log: LogConfig = LogConfig()
    sources: Mapping[str, str] = msgspec.field(default_factory=dict)
