"""Containers for tests on Azurite: each test has its own, and it goes with the test."""

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterator
from typing import Any

from azure.storage.blob import ContainerClient

from prism.config import AzureStore
from prism.config.settings import Secret
from prism.testing.services import Service

__all__ = ["client", "new_container", "put_foreign", "store_of"]


def store_of(server: Service, container: str, **settings: Any) -> AzureStore:
    """The settings of a container as `config.load` gives them."""
    ssl = server.url.startswith("https://")
    given = {
        "endpoint": server.url,
        "access_key": server.access_key,
        "secret_key": Secret(server.secret_key),
    } | settings
    return AzureStore(bucket=container, use_ssl=ssl, ca_file=server.ca_file, **given)


@contextlib.contextmanager
def client(server: Service, container: str) -> Iterator[ContainerClient]:
    """Azure's own library on a container."""
    key = {"account_name": server.access_key, "account_key": server.secret_key}
    verify = {} if server.ca_file is None else {"connection_verify": str(server.ca_file)}
    with ContainerClient(server.url, container, credential=key, retry_total=0, **verify) as found:
        yield found


@contextlib.asynccontextmanager
async def new_container(server: Service, **settings: Any) -> AsyncIterator[AzureStore]:
    """An empty container with a random name."""
    name = f"prism-{secrets.token_hex(8)}"
    with client(server, name) as container:
        container.create_container()
        try:
            yield store_of(server, name, **settings)
        finally:
            container.delete_container()


def put_foreign(server: Service, container: str, key: str, content: bytes) -> None:
    """Put bytes under any key, beside Prism."""
    with client(server, container) as found:
        found.get_blob_client(key).upload_blob(content, overwrite=True)
