"""The URLs of one container that the store opens to whoever holds them."""

import base64
from datetime import datetime, timedelta
from urllib.parse import quote

from .azure_blocks import block_name
from .azure_requests import Requests
from .azure_sas import BY_PARTS, PLAIN, blob_path, signed_query
from .driver import Signed

__all__ = ["Signer"]

_EMULATOR = "devstoreaccount1"
_HALF_AN_HOUR = 1800


class Signer:
    """Signs for one container. `url` is where clients reach the account, `inside` where the store itself does."""

    def __init__(self, requests: Requests, account: str, container: str, url: str, inside: str) -> None:
        self._requests = requests
        self._account = account
        self._container = container
        self._url = url
        self._inside = inside

    async def get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """Reads the key."""
        query = await self._query(key, now, lasting_seconds, PLAIN, "r", content_type or "", disposition or "")
        return Signed(self._at(key, query))

    async def put(self, key: str, now: datetime, lasting_seconds: int) -> Signed:
        """Writes the key, again and again."""
        query = await self._query(key, now, lasting_seconds, PLAIN, "cw")
        return Signed(self._at(key, query), {"x-ms-blob-type": "BlockBlob"})

    async def part(self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int) -> Signed:
        """Puts one part. The permission to create does not change a blob that is there; an emulator asks for more."""
        emulated = self._account == _EMULATOR
        version, permissions = (PLAIN, "w") if emulated else (BY_PARTS, "c")
        query = await self._query(key, now, lasting_seconds, version, permissions)
        block = quote(base64.b64encode(block_name(upload, number).encode()).decode(), safe="")
        return Signed(f"{self._at(key, query)}&comp=block&blockid={block}")

    async def source(self, key: str, now: datetime) -> str:
        """For the store's own reading, when it copies."""
        query = await self._query(key, now, _HALF_AN_HOUR, PLAIN, "r")
        return f"{self._inside}/{blob_path(self._container, key)}?{query}"

    def plain(self, key: str) -> str:
        """Names the key to the store, and opens nothing."""
        return f"{self._inside}/{blob_path(self._container, key)}"

    def _at(self, key: str, query: str) -> str:
        return f"{self._url}/{blob_path(self._container, key)}?{query}"

    async def _query(
        self,
        key: str,
        now: datetime,
        lasting_seconds: int,
        version: str,
        permissions: str,
        content_type: str = "",
        disposition: str = "",
    ) -> str:
        return signed_query(
            await self._requests.signing_key(now, lasting_seconds),
            self._account,
            self._container,
            key,
            version=version,
            permissions=permissions,
            expires_at=now + timedelta(seconds=lasting_seconds),
            https_only=self._url.startswith("https://"),
            content_type=content_type,
            disposition=disposition,
        )
