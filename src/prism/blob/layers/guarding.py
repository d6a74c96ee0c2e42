"""A store that nobody may use yet: every call asks a guard first, which raises until the store is known to be ours."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from ..driver import Driver, Signed
from .layer import Layer

__all__ = ["Guarded"]

T = TypeVar("T")


class Guarded(Layer):
    """`guard` raises `PrismError` as long as the store is closed; no URL of it is given away then, either."""

    def __init__(self, driver: Driver, guard: Callable[[], None]) -> None:
        super().__init__(driver)
        self._guard = guard

    async def _call(self, name: str, do: Callable[[], Awaitable[T]]) -> T:
        self._guard()
        return await do()

    async def _sign(self, do: Callable[[], Awaitable[Signed]]) -> Signed:
        self._guard()
        return await do()
