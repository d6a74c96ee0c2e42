"""Kafka: one process that is broker and controller (KRaft), on Java, with the jars that Maven fetched."""

import base64
import subprocess
import uuid
from pathlib import Path

from prism.testing.servers import Command

from .ways import FetchError

__all__ = ["command", "prepare"]

FORMAT_SECONDS = 60
JAVA = ("java", "-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
LOGGING = ("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-Dorg.slf4j.simpleLogger.showDateTime=true")


def prepare(jars: Path, folder: Path, ports: tuple[int, ...]) -> None:
    """Write the settings, and format the log folder unless it is."""
    (folder / "server.properties").write_text(settings(folder, *ports))
    if (folder / "data" / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(b"\0" + uuid.uuid4().bytes[1:]).decode().rstrip("=")
    options = ("format", "--cluster-id", cluster, "--config", str(folder / "server.properties"))
    done = subprocess.run(
        [*JAVA, *LOGGING, "-cp", f"{jars}/*", "kafka.tools.StorageTool", *options],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=FORMAT_SECONDS,
    )
    if done.returncode != 0:
        raise FetchError(f"Kafka's StorageTool failed:\n{done.stdout.decode('utf-8', 'replace')[-2000:]}")


def settings(folder: Path, port: int, controller: int) -> str:
    """Topics are made by who needs them, never by a misspelled name; messages are up to 20 MiB."""
    chosen = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "log.dirs": folder / "data",
        "auto.create.topics.enable": "false",
        "message.max.bytes": 20 * 2**20,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
    }
    return "".join(f"{name}={value}\n" for name, value in chosen.items())


def command(jars: Path, folder: Path, ports: tuple[int, ...]) -> Command:
    """The broker over the folder that `prepare` formatted."""
    return Command(
        arguments=(*JAVA, *LOGGING, "-cp", f"{jars}/*", "kafka.Kafka", str(folder / "server.properties")),
        environment={},
        health=f"tcp://127.0.0.1:{ports[0]}",
    )
