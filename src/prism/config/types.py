"""The settings there are: frozen types with defaults and bounds; `docs/reference/configuration.md` is made from them.

What a field is for stands below it. Times are seconds, sizes bytes, unless the name says otherwise. A `Config` that
came from `load` is complete and checked; nobody looks at the environment again.
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
    "RemoteStore",
    "RunsConfig",
    "S3Store",
    "ServerConfig",
    "StoreConfig",
    "TLSConfig",
    "TokensConfig",
]

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0.001, le=86_400)]
Grace = Annotated[float, Meta(ge=0, le=2_592_000)]
Bytes = Annotated[int, Meta(ge=1, le=5 * 2**40)]
Text = Annotated[str, Meta(min_length=1, max_length=1024)]
Address = Annotated[
    str,
    Meta(
        pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*):[0-9]{1,5}$",
        extra={"allowed": "host:port, [IPv6 address]:port"},
    ),
]
Origin = Annotated[
    str, Meta(pattern=r"^https?://[^/?#@\s]+$", extra={"allowed": "http://host[:port] or https://host[:port]"})
]
BucketName = Annotated[
    str, Meta(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", extra={"allowed": "3 to 63 of a-z 0-9 . -"})
]
Region = Annotated[str, Meta(pattern=r"^[A-Za-z0-9-]{1,64}$", extra={"allowed": "1 to 64 of A-Z a-z 0-9 -"})]
Prefix = Annotated[
    str,
    Meta(
        pattern=r"^([A-Za-z0-9._=-]*[A-Za-z0-9_=-]/)*$",
        max_length=256,
        extra={"allowed": "empty, or folders of A-Z a-z 0-9 . _ = - that end in /"},
    ),
]


class LocalStore(Settings, frozen=True, kw_only=True, tag_field="kind", tag="local"):
    """`backend: local`: files below a folder of this machine."""

    root: Path
    """Folder of the namespace's bytes; `{data_dir}/blobs/{name}` unless given."""


class MemoryStore(Settings, frozen=True, kw_only=True, tag_field="kind", tag="memory"):
    """`backend: memory`: in this process, gone with it. For tests."""


class RemoteStore(Settings, frozen=True, kw_only=True):
    """What every backend beyond this machine has."""

    bucket: BucketName
    """The store's bucket (Azure: container)."""
    endpoint: Text = ""
    """`host:port` or URL; the cloud's own host (`s3`: the region's) unless given. A whole URL once loaded."""
    public_endpoint: Text = ""
    """Where clients reach the store, for the URLs that they are given; `endpoint` unless given."""
    use_ssl: bool | None = None
    """TLS to the store: `minio` false, the others true unless given."""
    ca_file: Path | None = None
    """Certificates of the authorities that the store's own is checked against, PEM; the system's unless given."""
    prefix: Prefix = ""
    """Stands in front of every physical key, so that namespaces can share a bucket."""
    request_seconds: Seconds = 30
    """The store must answer, or take or give the next piece of a body, within this time."""
    max_connections: Annotated[int, Meta(ge=1, le=10_000)] = 64
    """Calls to the store at a time; further ones wait a little, then the store counts as overloaded."""


class S3Store(RemoteStore, frozen=True, kw_only=True, tag_field="kind", tag="s3"):
    """`backend: s3` (TLS always) and `backend: minio` (any S3-compatible server; TLS when asked for)."""

    region: Region = "us-east-1"
    """The region that signatures name."""
    access_key: Text | None = None
    """Access key; without one, the cloud's default credential chain (variables, shared files, machine or pod role)."""
    secret_key: Secret | None = None
    """The secret that belongs to `access_key`."""
    session_token: Secret | None = None
    """The token that belongs to temporary keys."""
    credentials_file: Path | None = None
    """A shared credentials file (INI), read again when it changes; instead of `access_key`."""
    profile: Text | None = None
    """The profile in `credentials_file`, or in the chain's own files."""
    path_style: bool | None = None
    """The bucket stands in the path (`minio` unless given) and not in the host's name (`s3` unless given)."""
    encryption: Literal["AES256", "aws:kms"] | None = None
    """Encryption at rest that every write asks for; null: what the bucket does by itself."""
    kms_key: Text | None = None
    """The key for `aws:kms`; the account's own unless given."""


class GCSStore(RemoteStore, frozen=True, kw_only=True, tag_field="kind", tag="gcs"):
    """`backend: gcs`: Google Cloud Storage."""

    credentials: Secret | None = None
    """Service account key (JSON); without one, the cloud's default credential chain."""
    kms_key: Text | None = None
    """The key that every write is encrypted with at rest; the bucket's own unless given."""


class AzureStore(RemoteStore, frozen=True, kw_only=True, tag_field="kind", tag="azure"):
    """`backend: azure`: Azure Blob Storage."""

    access_key: Text
    """The storage account's name."""
    secret_key: Secret | None = None
    """The account's key; without one, the cloud's default credential chain."""
    encryption_scope: Text | None = None
    """The scope that every write is encrypted in at rest; the container's own unless given."""


StoreConfig = LocalStore | MemoryStore | S3Store | GCSStore | AzureStore


class NamespaceConfig(Settings, frozen=True, kw_only=True):
    """One of `namespaces:`. All but `name` may as well stand under its `config:`."""

    derived: ClassVar[frozenset[str]] = frozenset({"store"})

    name: str
    """1 to 63 of a-z 0-9 with single . _ - between."""
    backend: Literal["minio", "s3", "gcs", "azure", "local", "memory"]
    """Where the bytes lie; each backend has settings of its own, below."""
    pattern: Literal["objectstore"] = "objectstore"
    """How the namespace is used; decides the TTL where neither request nor namespace says one."""
    store: StoreConfig
    bucket: BucketName
    """The namespace's own bucket, as callers name it; `local` and `memory`: the namespace's name unless given."""
    default_ttl_seconds: Annotated[int, Meta(ge=1, le=3_155_760_000)] | None = None
    """How long objects live whose writer does not say; null: 90 days, the pattern's."""
    allow_infinite_ttl: bool = False
    """Writers may ask for no expiry."""
    no_expiration_default: bool = False
    """Objects whose writer does not say do not expire; needs `allow_infinite_ttl`. The run namespace's default."""
    versioning: bool = False
    """Overwritten and deleted content is kept as older versions."""
    events: bool = False
    """Every change of an object is recorded for the event bus."""
    max_object_bytes: Bytes | None = None
    """Largest object; null: `limits.max_object_bytes`."""
    s3_access_key: Text
    """Access key of this namespace at Prism's own S3 endpoint; the namespace's name unless given."""
    s3_secret: Secret
    """Secret that belongs to `s3_access_key`; `prism-local-{name}` unless given."""


class Endpoint(Settings, frozen=True, kw_only=True):
    """Where one server listens. A plain string is its `address`."""

    shorthand: ClassVar[str] = "address"

    address: Address
    """`host:port`; port 0 takes a free one, an empty host all interfaces."""
    public_url: Origin | None = None
    """How it is reached from outside, for URLs that are handed out; null: the address."""

    @property
    def host(self) -> str:
        """Without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """0: any free one."""
        return int(self.address.rpartition(":")[2])


class TLSConfig(Settings, frozen=True, kw_only=True):
    """TLS of all three servers."""

    cert_file: Path
    """Certificate chain, PEM."""
    key_file: Path
    """Private key, PEM."""


class ServerConfig(Settings, frozen=True, kw_only=True):
    """The three servers."""

    grpc: Endpoint = Endpoint(address="127.0.0.1:50051")
    """The gRPC API."""
    http: Endpoint = Endpoint(address="127.0.0.1:8080")
    """The HTTP API, health, metrics, docs."""
    s3: Endpoint = Endpoint(address="127.0.0.1:8333")
    """The S3 API; presigned URLs of local and memory namespaces point here."""
    s3_region: Region = "us-east-1"
    """The region that signatures for the S3 API name."""
    cors_origins: tuple[
        Annotated[str, Meta(pattern=r"^(\*|https?://[^/?#@\s]+)$", extra={"allowed": "http(s)://host[:port] or *"})],
        ...,
    ] = ()
    """Origins whose pages may call from a browser; `*`: all, only with `auth: open`."""
    shutdown_seconds: Seconds = 10
    """After SIGTERM, how long what is in flight may take."""
    tls: TLSConfig | None = None
    """Plain text unless given."""


class MetaConfig(Settings, frozen=True, kw_only=True):
    """The catalog."""

    url: Text
    """`sqlite:///PATH` (four slashes: absolute), `postgresql://…`, `fdb:///CLUSTER-FILE` or `memory:`; the file
    `{data_dir}/catalog.sqlite` unless given. A password in it is moved to `password`."""
    password: Secret | None = None
    """The catalog's password."""


class BusConfig(Settings, frozen=True, kw_only=True):
    """The event log."""

    url: Text = "log:"
    """`log:` (kept in the catalog), `kafka://host:port[,…]` or `memory:`. A password in it is moved to `password`."""
    password: Secret | None = None
    """The broker's password."""
    retention_hours: Annotated[int, Meta(ge=1, le=87_600)] = 168
    """How long messages are kept at least."""


class RunsConfig(Settings, frozen=True, kw_only=True):
    """The run API, which is not served yet: of these, only `namespace` has an effect so far."""

    namespace: str = "matyan-artifacts"
    """The namespace of the runs' blobs; without a `default_ttl_seconds` of its own, its objects do not expire."""
    presign_seconds: Annotated[int, Meta(ge=1, le=3600)] = 3600
    """How long a run's upload URL works."""
    replay_horizon_days: Annotated[int, Meta(ge=1, le=3650)] = 30
    """How old a message may be that still promises something; longer than `bus.retention_hours`."""
    anonymous: bool = False
    """Callers without a credential may use the run API, and only that."""


class AuthConfig(Settings, frozen=True, kw_only=True):
    """Who may call. `auth: open` is short for its `mode`."""

    shorthand: ClassVar[str] = "mode"

    mode: Literal["open"] | None = None
    """null: everybody who reaches a loopback address, and no other address is bound; `open`: everybody, anywhere."""


class Limits(Settings, frozen=True, kw_only=True):
    """Bounds, graces and deadlines."""

    max_transfer_seconds: Seconds = 3600
    """Longest transfer of one object."""
    clock_skew_seconds: Grace = 5
    """How far clocks may differ before the janitor stops deleting."""
    read_grace_seconds: Grace = 10
    """Bytes of a deleted object stay this long for reads under way (not where open files survive deletion)."""
    overwrite_grace_seconds: Grace = 3600
    """Overwritten bytes stay this long."""
    expiry_grace_seconds: Grace = 3600
    """Expired bytes stay this long after the janitor found them so; the object is absent from the second it expires."""
    max_object_bytes: Bytes = 5 * 2**40
    """Largest object."""
    metadata_bytes: Annotated[int, Meta(ge=0, le=65_536)] = 2048
    """Largest user metadata of an object, names and values together."""
    max_open_uploads_per_key: Annotated[int, Meta(ge=1, le=1000)] = 32
    """Presigned uploads of one key that may be open at a time."""
    upload_session_seconds: Annotated[float, Meta(ge=60, le=2_592_000)] = 86_400
    """An upload in parts on which nothing happens for this long is given up."""
    request_seconds: Seconds = 30
    """Deadline of a request that moves no object bytes."""
    idle_seconds: Seconds = 60
    """A transfer or connection on which nothing moves for this long is ended."""
    min_transfer_bytes_per_second: Annotated[int, Meta(ge=0, le=2**30)] = 1024
    """A transfer that is slower than this on average is ended; 0: never."""
    max_header_bytes: Annotated[int, Meta(ge=4096, le=1_048_576)] = 65_536
    """All headers of a request together."""
    max_json_bytes: Annotated[int, Meta(ge=1024, le=67_108_864)] = 1_048_576
    """Largest request body that is not an object's bytes."""
    max_connections: Count = 1024
    """Open connections per server."""
    max_requests: Count = 512
    """Requests in progress per server; further ones are RATE_LIMITED."""


class TokensConfig(Settings, frozen=True, kw_only=True):
    """Sealed blob tokens of the run API, which is not served yet: without effect so far."""

    keys: tuple[Secret, ...] = ()
    """The key ring, newest first."""


class JanitorConfig(Settings, frozen=True, kw_only=True):
    """Background work: expiry, purges, deletion of garbage."""

    interval_seconds: Seconds = 5.0
    """Pause between rounds."""
    batch: Annotated[int, Meta(ge=1, le=5000)] = 500
    """Rows per transaction."""


class AuditConfig(Settings, frozen=True, kw_only=True):
    """The audit record: one JSON line per operation."""

    path: Path
    """The file; `{data_dir}/audit.jsonl` unless given."""
    reads: bool = True
    """Record reads too; mutations and grants always are."""
    max_bytes: Annotated[int, Meta(ge=65_536, le=2**40)] = 256 * 2**20
    """Size at which the file is renamed and a new one begun."""
    keep: Annotated[int, Meta(ge=1, le=1000)] = 8
    """How many renamed files stay: `audit.jsonl.1` is the newest."""


class LogConfig(Settings, frozen=True, kw_only=True):
    """The log on standard error: one JSON line per event."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least important level that is written."""


class Config(Settings, frozen=True, kw_only=True):
    """Everything, complete and checked."""

    derived: ClassVar[frozenset[str]] = frozenset({"sources"})

    data_dir: Path
    """Folder of everything that is kept on this machine; `./prism-data` unless given."""
    namespaces: tuple[NamespaceConfig, ...]
    """The namespaces; the three embedded ones unless given."""
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
    """Where each setting that was given came from, by key path."""
