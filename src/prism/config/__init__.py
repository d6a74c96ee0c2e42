"""Typed configuration: `load(path, environment) -> Config`; anything unknown or unsafe stops the start by name.

A file (YAML), the environment and the command line are laid over each other, in this order, over the embedded default;
what comes out is frozen, complete and checked. A secret is a `Secret`, which shows itself to nobody but `reveal()`.
Nothing is opened or contacted here, but the files that hold secrets.
"""

from .checks import without_effect
from .describing import Setting, describe
from .loading import load
from .settings import Secret
from .types import (
    AuditConfig,
    AuthConfig,
    AzureStore,
    BusConfig,
    Config,
    Endpoint,
    GCSStore,
    JanitorConfig,
    Limits,
    LocalStore,
    LogConfig,
    MemoryStore,
    MetaConfig,
    NamespaceConfig,
    RemoteStore,
    RunsConfig,
    S3Store,
    ServerConfig,
    StoreConfig,
    TLSConfig,
    TokensConfig,
)

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
    "Secret",
    "ServerConfig",
    "Setting",
    "StoreConfig",
    "TLSConfig",
    "TokensConfig",
    "describe",
    "load",
    "without_effect",
]
