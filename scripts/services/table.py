"""Which servers there are, how each is started, and the variables that tell tests where it is."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prism.testing import servers
from prism.testing.certificate import issued
from prism.testing.servers import Command

from . import kafka, postgres

__all__ = ["SERVERS", "Places", "Server", "environment"]

ACCESS_KEY = "prism-test"
SECRET_KEY = "prism-test-password"  # noqa: S105 - of servers that listen on loopback and hold nothing
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Known to every Azure client as the emulator's."""
CERTIFICATE_LIFE = timedelta(days=60)


@dataclass(frozen=True)
class Places:
    """Where things are."""

    run: Path
    """A folder per server, with its data, its log and its state."""
    programs: Mapping[str, Path]

    def folder(self, name: str) -> Path:
        folder = self.run / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True)
class Server:
    """One row of the table."""

    name: str
    command: Callable[[Places, tuple[int, ...]], Command]
    variables: Callable[[Places, tuple[int, ...]], dict[str, str]]
    prepare: Callable[[Places, tuple[int, ...]], None] = lambda _places, _ports: None
    """Done before each start; raises FetchError."""
    ports: int = 1
    deadline_seconds: float = 30


def keys(stem: str) -> dict[str, str]:
    return {f"PRISM_TEST_{stem}_ACCESS_KEY": ACCESS_KEY, f"PRISM_TEST_{stem}_SECRET_KEY": SECRET_KEY}


def minio(places: Places, ports: tuple[int, ...]) -> Command:
    folder = places.folder("minio")
    return servers.minio(places.programs["minio"], folder, ports[0], access_key=ACCESS_KEY, secret_key=SECRET_KEY)


def minio_tls(places: Places, ports: tuple[int, ...]) -> Command:
    folder = places.folder("minio_tls")
    return servers.minio(
        places.programs["minio"],
        folder,
        ports[0],
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        tls=certificates(folder / "certificates"),
    )


def certificates(folder: Path) -> Path:
    """The folder as MinIO wants it; made again when half of their life is over."""
    public, private, authority = (folder / name for name in ("public.crt", "private.key", "ca.crt"))
    fresh = datetime.now(UTC) - CERTIFICATE_LIFE / 2
    if authority.exists() and datetime.fromtimestamp(authority.stat().st_mtime, UTC) > fresh:
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    made = issued(folder, life=CERTIFICATE_LIFE)
    made.cert_file.rename(public)
    made.key_file.rename(private)
    made.ca_file.rename(authority)
    return folder


def versitygw(places: Places, ports: tuple[int, ...]) -> Command:
    folder = places.folder("versitygw")
    return servers.versitygw(
        places.programs["versitygw"], folder, ports[0], access_key=ACCESS_KEY, secret_key=SECRET_KEY
    )


def azurite(places: Places, ports: tuple[int, ...]) -> Command:
    folder = places.folder("azurite") / "data"
    return servers.azurite(places.programs["azurite"], folder, ports[0], account=AZURITE_ACCOUNT, key=AZURITE_KEY)


SERVERS = (
    Server(
        "minio",
        minio,
        lambda places, ports: {"PRISM_TEST_MINIO_URL": http(ports), **keys("MINIO"), **binary(places, "minio")},
    ),
    Server(
        "minio_tls",
        minio_tls,
        lambda places, ports: {
            "PRISM_TEST_MINIO_TLS_URL": f"https://127.0.0.1:{ports[0]}",
            "PRISM_TEST_CA_FILE": str(places.folder("minio_tls") / "certificates" / "ca.crt"),
        },
    ),
    Server(
        "versitygw",
        versitygw,
        lambda places, ports: {
            "PRISM_TEST_VERSITYGW_URL": http(ports),
            **keys("VERSITYGW"),
            **binary(places, "versitygw"),
        },
    ),
    Server(
        "gcs",
        lambda places, ports: servers.fake_gcs(places.programs["gcs"], ports[0]),
        lambda places, ports: {"PRISM_TEST_GCS_URL": http(ports), **binary(places, "gcs")},
    ),
    Server(
        "azurite",
        azurite,
        lambda places, ports: {
            "PRISM_TEST_AZURITE_URL": f"{http(ports)}/{AZURITE_ACCOUNT}",
            "PRISM_TEST_AZURITE_ACCOUNT": AZURITE_ACCOUNT,
            "PRISM_TEST_AZURITE_KEY": AZURITE_KEY,
            **binary(places, "azurite"),
        },
    ),
    Server(
        "toxiproxy",
        lambda places, ports: servers.toxiproxy(places.programs["toxiproxy"], ports[0]),
        lambda places, ports: {"PRISM_TEST_TOXIPROXY_URL": http(ports), **binary(places, "toxiproxy")},
    ),
    Server(
        "postgres",
        lambda places, ports: postgres.command(places.programs["postgres"], places.folder("postgres"), ports[0]),
        lambda places, ports: {
            "PRISM_TEST_POSTGRES_URL": f"postgresql://{postgres.USER}:{SECRET_KEY}@127.0.0.1:{ports[0]}/postgres"
        },
        prepare=lambda places, ports: postgres.prepare(
            places.programs["postgres"], places.folder("postgres"), SECRET_KEY
        ),
    ),
    Server(
        "kafka",
        lambda places, ports: kafka.command(places.programs["kafka"], places.folder("kafka"), ports),
        lambda places, ports: {"PRISM_TEST_KAFKA": f"127.0.0.1:{ports[0]}"},
        prepare=lambda places, ports: kafka.prepare(places.programs["kafka"], places.folder("kafka"), ports),
        ports=2,
        deadline_seconds=90,
    ),
)


def http(ports: tuple[int, ...]) -> str:
    return f"http://127.0.0.1:{ports[0]}"


def binary(places: Places, name: str) -> dict[str, str]:
    return {f"PRISM_TEST_{name.upper()}_BIN": str(places.programs[name])}


def environment(servers: Sequence[Server], running: Mapping[str, tuple[int, ...]], places: Places) -> dict[str, str]:
    """All variables, by the ports that each server got."""
    found: dict[str, str] = {}
    for server in servers:
        found |= server.variables(places, running[server.name])
    return found
