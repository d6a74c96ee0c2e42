"""How each real server is started: the one place that knows their options, for `make services` and for tests.

A `Command` is a value: what to run, with what in its environment, and how to see that it serves. Nothing here starts
anything. Every server listens on 127.0.0.1 alone, keeps all that it writes below the folder it is given, and reports to
nobody.
"""

import base64
import os
from pathlib import Path

import msgspec

__all__ = ["Command", "azurite", "fake_gcs", "minio", "toxiproxy", "versitygw"]

_KMS_KEY = "prism-test-key:" + base64.b64encode(b"prism tests: thirty-two bytes ok").decode()
_AZURITE_START = ("--silent", "--skipApiVersionCheck", "--disableTelemetry", "--disableProductStyleUrl")


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A server that is not started yet."""

    arguments: tuple[str, ...]
    """The program and its arguments."""
    environment: dict[str, str]
    """Set besides what the caller's own environment holds."""
    health: str
    """`http(s)://…` that answers 200 once it serves, or `tcp://host:port` that accepts."""
    ca_file: Path | None = None
    """Who signed the certificate behind `health`."""
    user: int | None = None
    """The user to run as, for a server that refuses root."""


def minio(
    program: Path, folder: Path, port: int, *, access_key: str, secret_key: str, tls: Path | None = None
) -> Command:
    """MinIO over `folder`, with a KMS key, so that SSE-S3 and SSE-KMS work; `tls` is a folder with `public.crt`,
    `private.key` and `ca.crt`. Hosts `{bucket}.localhost` are taken as buckets, besides paths."""
    certificates = tls or folder / "no-certificates"
    certificates.mkdir(parents=True, exist_ok=True)
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    listen = ("--address", f"127.0.0.1:{port}", "--certs-dir", str(certificates))
    cluster = f"127.0.0.1:{port}/minio/health/cluster"  # `live` answers 200 before keys and buckets are known
    return Command(
        arguments=(str(program), "server", "--quiet", *listen, str(data)),
        environment={
            "MINIO_ROOT_USER": access_key,
            "MINIO_ROOT_PASSWORD": secret_key,
            "MINIO_KMS_SECRET_KEY": _KMS_KEY,
            "MINIO_DOMAIN": "localhost",
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        },
        health=f"{'https' if tls else 'http'}://{cluster}",
        ca_file=tls and tls / "ca.crt",
    )


def versitygw(program: Path, folder: Path, port: int, *, access_key: str, secret_key: str) -> Command:
    """The Versity gateway over `folder`, with versioning and users of its own. Where the filesystem has no extended
    attributes it keeps metadata in files beside."""
    places = {name: folder / name for name in ("data", "versions", "users", "metadata")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    sidecar = () if _has_attributes(places["data"]) else ("--sidecar", str(places["metadata"]))
    gateway = ("--port", f"127.0.0.1:{port}", "--quiet", "--health", "/health", "--iam-dir", str(places["users"]))
    backend = ("posix", "--versioning-dir", str(places["versions"]), *sidecar, str(places["data"]))
    return Command(
        arguments=(str(program), *gateway, *backend),
        environment={"ROOT_ACCESS_KEY": access_key, "ROOT_SECRET_KEY": secret_key},
        health=f"http://127.0.0.1:{port}/health",
    )


def fake_gcs(program: Path, port: int) -> Command:
    """fake-gcs-server, in memory. It answers on any port of its host, as a proxy before it needs."""
    host = f"127.0.0.1:{port}"
    listen = ("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", "127.0.0.1")
    return Command(
        arguments=(
            str(program), *listen, "-external-url", f"http://{host}", "-backend", "memory", "-log-level", "warn",
        ),
        environment={},
        health=f"http://{host}/_internal/healthcheck",
    )  # fmt: skip


def azurite(program: Path, folder: Path, port: int, *, account: str, key: str) -> Command:
    """Azurite's blob service over `folder`; it refuses headers and parameters that it does not know."""
    folder.mkdir(parents=True, exist_ok=True)
    listen = ("--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder))
    return Command(
        arguments=(str(program), *listen, *_AZURITE_START),
        environment={"AZURITE_ACCOUNTS": f"{account}:{key}"},
        health=f"tcp://127.0.0.1:{port}",
    )


def toxiproxy(program: Path, port: int) -> Command:
    """Toxiproxy's control server; the proxies themselves are made through it."""
    return Command(
        arguments=(str(program), "-host", "127.0.0.1", "-port", str(port)),
        environment={"LOG_LEVEL": "warn"},
        health=f"http://127.0.0.1:{port}/version",
    )


def _has_attributes(folder: Path) -> bool:
    """Whether files here can have extended attributes."""
    try:
        os.setxattr(folder, "user.prism-test", b"1")
        os.removexattr(folder, "user.prism-test")
    except (OSError, AttributeError):  # AttributeError: not Linux
        return False
    return True
