"""A plain HTTP client for what a store serves itself: it sends a URL and its headers as they are, and follows nothing.

No library between: nothing normalises a path, adds a header or decodes a body. It is for tests; each request has a
connection of its own, runs in a thread and ends within a minute.
"""

import asyncio
import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from ..blob.memory_front import Answer

__all__ = ["PlainHTTP"]

_SECONDS = 60.0


class PlainHTTP:
    """Call it with method, URL, headers and body. `ca_file`: whom to trust besides the system's own."""

    def __init__(self, ca_file: Path | None = None) -> None:
        self._tls = ssl.create_default_context(cafile=ca_file)

    async def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """One request; OSError or `http.client.HTTPException` when there is no answer."""
        return await asyncio.to_thread(self._request, method, url, headers, body)

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        split = urlsplit(url)
        assert split.hostname
        connection = (
            http.client.HTTPSConnection(split.hostname, split.port, timeout=_SECONDS, context=self._tls)
            if split.scheme == "https"
            else http.client.HTTPConnection(split.hostname, split.port, timeout=_SECONDS)
        )
        try:
            connection.putrequest(method, url[url.index("/", len(split.scheme) + 3) :], skip_accept_encoding=True)
            given = {name.lower(): value for name, value in headers.items()}
            if method not in {"GET", "HEAD"} or body:
                given.setdefault("content-length", str(len(body)))
            for name, value in given.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()
