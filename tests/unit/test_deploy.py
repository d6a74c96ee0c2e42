"""What stands in deploy/ belongs together: the compose files, the image and its configuration.

No Docker is needed to see it: the files are read into strict types that know what these files may say, and are held
against each other.
"""

import fnmatch
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
import yaml

from prism.config import Config, S3Store, load

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = ("compose.yaml", "compose.test.yaml")
_VARIABLE = re.compile(r"(?<!\$)\$\{\w+:-([^}]*)\}")


class Strict(msgspec.Struct, forbid_unknown_fields=True):
    pass


class Condition(Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Check(Strict):
    test: list[str]
    interval: str = ""
    timeout: str = ""
    retries: int = 0
    start_period: str = ""


class Build(Strict):
    context: str
    dockerfile: str


class Container(Strict):
    image: str = ""
    build: Build | None = None
    command: str | list[str] = ""
    entrypoint: list[str] = []
    environment: dict[str, str] = {}
    ports: list[str] = []
    volumes: list[str] = []
    depends_on: dict[str, Condition] = {}
    healthcheck: Check | None = None
    profiles: list[str] = []
    restart: Literal["no", "unless-stopped"] | None = None
    stop_grace_period: str = ""


class Compose(Strict):
    services: dict[str, Container]
    name: str = ""
    volumes: dict[str, None] = {}


def compose(name: str) -> Compose:
    """Types are exact: Docker takes `"1"` and `1`, `no` and `false` for different things."""
    text = _VARIABLE.sub(r"\1", (DEPLOY / name).read_text())
    return msgspec.convert(yaml.safe_load(text), Compose, strict=True)


def configured(container: Container) -> Config:
    return load(DEPLOY / "prism.yaml", container.environment)


@pytest.mark.parametrize("name", [*COMPOSE, "compose.versitygw.yaml"])
def test_every_image_is_one_fixed_version(name: str) -> None:
    for container in compose(name).services.values():
        if container.build is None:
            tag = container.image.rpartition(":")[2]
            assert re.search(r"\d", tag), container.image


@pytest.mark.parametrize("name", COMPOSE)
def test_what_is_depended_on_is_there_and_can_be_healthy(name: str) -> None:
    services = compose(name).services
    for container in services.values():
        for needed, how in container.depends_on.items():
            assert how.condition != "service_healthy" or services[needed].healthcheck


@pytest.mark.parametrize("name", COMPOSE)
def test_volumes_are_declared_and_files_exist(name: str) -> None:
    found = compose(name)
    for container in found.services.values():
        for source in (volume.partition(":")[0] for volume in container.volumes):
            assert (DEPLOY / source).exists() if source.startswith(".") else source in found.volumes


@pytest.mark.parametrize("name", COMPOSE)
def test_nothing_is_published_beyond_this_machine(name: str) -> None:
    published = [port for container in compose(name).services.values() for port in container.ports]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published), published
    assert len(published) == len(set(published))


@pytest.mark.parametrize("name", COMPOSE)
def test_variables_and_the_images_configuration_find_the_store(name: str) -> None:
    services = compose(name).services
    (prism,) = (container for container in services.values() if container.build)
    config = configured(prism)
    store = config.namespaces[0].store
    assert isinstance(store, S3Store)
    assert store.endpoint == "http://minio:9000"
    assert store.access_key == services["minio"].environment["MINIO_ROOT_USER"]
    assert store.secret_key is not None
    assert store.secret_key.reveal() == services["minio"].environment["MINIO_ROOT_PASSWORD"]
    assert store.public_endpoint.rpartition(":")[2] in {port.split(":")[1] for port in services["minio"].ports}
    assert config.auth.mode == "open"
    listening = {endpoint.port for endpoint in (config.server.grpc, config.server.http, config.server.s3)}
    assert listening == {int(port.split(":")[2]) for port in prism.ports}
    made = " ".join(services["buckets"].command)
    assert all(f"local/{namespace.bucket}" in made for namespace in config.namespaces)


def test_the_test_setup_is_the_first_designs() -> None:
    services = compose("compose.test.yaml").services
    assert services["minio"].environment == {
        "MINIO_ROOT_USER": "prism-test",
        "MINIO_ROOT_PASSWORD": "prism-test-password",
    }
    assert services["minio"].command == 'server /data --console-address ":9001"'
    assert services["minio"].healthcheck == Check(
        test=["CMD", "curl", "-f", "http://localhost:9000/minio/health/live"], interval="5s", timeout="3s", retries=3
    )
    assert {port.partition(":")[2] for port in services["minio"].ports} == {"9000:9000", "9001:9001"}
    proxy = services["prism-proxy"]
    assert proxy.depends_on["minio"].condition == "service_healthy"
    assert "127.0.0.1:50051:50051" in proxy.ports
    assert proxy.environment["PRISM_OBJECTSTORE_ENDPOINT"] == "minio:9000"


def test_another_server_takes_minios_place_under_its_name() -> None:
    first, other = compose("compose.yaml"), compose("compose.versitygw.yaml")
    assert set(other.services) == {"minio", "buckets"}
    keys, others = first.services["minio"].environment, other.services["minio"].environment
    assert others == {"ROOT_ACCESS_KEY": keys["MINIO_ROOT_USER"], "ROOT_SECRET_KEY": keys["MINIO_ROOT_PASSWORD"]}
    made = " ".join(other.services["buckets"].command)
    assert all(f"/data/{namespace.bucket}" in made for namespace in load(DEPLOY / "prism.yaml", {}).namespaces)


def instructions() -> list[list[str]]:
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.split() for line in text.splitlines() if line and not line.startswith("#")]


def test_the_image_is_made_of_files_that_exist_and_are_let_through() -> None:
    kept = [
        line.removeprefix("!")
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for word, *arguments in instructions():
        if word == "COPY" and not arguments[0].startswith("--from"):
            for source in arguments[:-1]:
                assert (ROOT / source).exists(), source
                assert any(fnmatch.fnmatch(source, f"{pattern}*") for pattern in kept), source


def test_the_image_serves_the_configuration_that_it_holds_where_its_checks_look() -> None:
    said: dict[str, Any] = {word: arguments for word, *arguments in instructions()}
    config = load(DEPLOY / "prism.yaml", {})
    copied = next(words[2] for words in instructions() if words[:2] == ["COPY", "deploy/prism.yaml"])
    assert copied in " ".join(said["CMD"])
    assert str(config.data_dir) == said["WORKDIR"][0] == said["VOLUME"][0]
    assert said["EXPOSE"] == [str(one.port) for one in (config.server.grpc, config.server.http, config.server.s3)]
    assert f":{config.server.http.port}/readyz" in " ".join(said["CMD"] + said["HEALTHCHECK"])
