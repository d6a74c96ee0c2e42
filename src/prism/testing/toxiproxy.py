"""A line that fails on purpose: a small client of toxiproxy, which `make services` starts.

`Proxy.before("127.0.0.1:9000")` listens on a free port and passes everything on until it is given toxics or cut
off. Connections are TCP: what fails is the line, not the server. A proxy belongs to one test, which closes it.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Literal, Self

import httpx

from .services import service

__all__ = ["Proxy", "proxy_before"]

Direction = Literal["upstream", "downstream"]
"""upstream: what the client sends; downstream: what the server answers."""


class Proxy:
    """One proxy. Every method returns when toxiproxy has carried it out; httpx.HTTPError if it could not."""

    def __init__(self, control: httpx.AsyncClient, name: str, listen: str) -> None:
        self._control = control
        self._path = f"/proxies/{name}"
        self.address = listen
        """`host:port` to connect to."""

    @property
    def url(self) -> str:
        """`http://` and the address."""
        return f"http://{self.address}"

    @classmethod
    async def before(cls, control: httpx.AsyncClient, upstream: str) -> Self:
        """A new one in front of `host:port`, on a port of its own choice."""
        name = f"test-{secrets.token_hex(6)}"
        wanted = {"name": name, "listen": "127.0.0.1:0", "upstream": upstream, "enabled": True}
        answer = (await control.post("/proxies", json=wanted)).raise_for_status()
        return cls(control, name, str(answer.json()["listen"]))

    async def enable(self) -> None:
        """Listen again, on the same port."""
        await self._set_enabled(True)

    async def disable(self) -> None:
        """Refuse connections and cut the open ones."""
        await self._set_enabled(False)

    async def latency(self, milliseconds: int, *, jitter: int = 0, direction: Direction = "downstream") -> str:
        """Hold everything back for a while. Returns the toxic's name, as all of these do."""
        return await self._add("latency", direction, {"latency": milliseconds, "jitter": jitter})

    async def bandwidth(self, kilobytes_per_second: int, *, direction: Direction = "downstream") -> str:
        """No faster than this; 0 holds everything."""
        return await self._add("bandwidth", direction, {"rate": kilobytes_per_second})

    async def reset_peer(self, after_milliseconds: int = 0, *, direction: Direction = "downstream") -> str:
        """End each connection with RST after a while."""
        return await self._add("reset_peer", direction, {"timeout": after_milliseconds})

    async def timeout(self, milliseconds: int = 0, *, direction: Direction = "downstream") -> str:
        """Pass nothing on, and close after a while; 0: never, until the toxic is removed."""
        return await self._add("timeout", direction, {"timeout": milliseconds})

    async def slow_close(self, milliseconds: int, *, direction: Direction = "downstream") -> str:
        """Hold the end of a connection back for a while."""
        return await self._add("slow_close", direction, {"delay": milliseconds})

    async def limit_data(self, size_bytes: int, *, direction: Direction = "downstream") -> str:
        """Close each connection after so many bytes."""
        return await self._add("limit_data", direction, {"bytes": size_bytes})

    async def heal(self, toxic: str) -> None:
        """Take one toxic away."""
        (await self._control.delete(f"{self._path}/toxics/{toxic}")).raise_for_status()

    async def heal_all(self) -> None:
        """Take every toxic away."""
        for toxic in (await self._control.get(f"{self._path}/toxics")).raise_for_status().json():
            await self.heal(toxic["name"])

    async def remove(self) -> None:
        """End it and what runs through it. Without effect on one that is gone."""
        answer = await self._control.delete(self._path)
        if answer.status_code != 404:
            answer.raise_for_status()

    async def _set_enabled(self, enabled: bool) -> None:
        (await self._control.post(self._path, json={"enabled": enabled, "listen": self.address})).raise_for_status()

    async def _add(self, kind: str, direction: Direction, attributes: dict[str, Any]) -> str:
        toxic = {"type": kind, "stream": direction, "toxicity": 1.0, "attributes": attributes}
        answer = (await self._control.post(f"{self._path}/toxics", json=toxic)).raise_for_status()
        return str(answer.json()["name"])


@contextlib.asynccontextmanager
async def proxy_before(upstream: str) -> AsyncIterator[Proxy]:
    """A proxy before `host:port` (`Service.address`), removed when the block is left."""
    async with httpx.AsyncClient(base_url=service("toxiproxy").url, trust_env=False, timeout=10) as control:
        proxy = await Proxy.before(control, upstream)
        try:
            yield proxy
        finally:
            await proxy.remove()
