"""A store that nobody may use yet: every call asks a guard first, which raises until the store is known to be ours."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

from .driver import Bound, Driver, Signed
from .layers import Layer

__all__ = ["Guarded"]

T = TypeVar("T")


class Guarded(Layer):
    """`guard` raises `PrismError` as long as the store is closed."""

    def __init__(self, driver: Driver, guard: Callable[[], None]) -> None:
        super().__init__(driver)
        self._guard = guard

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        self._guard()
        return await do()

    async def sign_get(
        self, key: str, now: datetime, lasting_seconds: int, content_type: str | None, disposition: str | None
    ) -> Signed:
        """No URL of a closed store is given away."""
        self._guard()
        return await super().sign_get(key, now, lasting_seconds, content_type, disposition)

    async def sign_put(self, key: str, now: datetime, lasting_seconds: int, bound: Bound) -> Signed:
        """Likewise."""
        self._guard()
        return await super().sign_put(key, now, lasting_seconds, bound)

    async def sign_part(
        self, key: str, upload: str, number: int, now: datetime, lasting_seconds: int, size_bytes: int | None
    ) -> Signed:
        """Likewise."""
        self._guard()
        return await super().sign_part(key, upload, number, now, lasting_seconds, size_bytes)
