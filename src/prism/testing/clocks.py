"""Clocks that a test moves, so that nothing has to be waited for: given as `now`, and to stores that go with them."""

from datetime import UTC, datetime, timedelta

from ..blob.driver import Driver
from ..blob.layers import Layer
from ..identifiers import utc_now

__all__ = ["ShiftedClock", "ShiftedStore", "StillClock"]


class StillClock:
    """Stands still, at a whole second, until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 24, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **time: float) -> None:
        """Let time pass: `seconds=1`, `hours=6` and the like."""
        self.at += timedelta(**time)


class ShiftedClock:
    """The machine's time, `ahead` of itself by what was let pass; behind, where that is negative."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead

    def __call__(self) -> datetime:
        return utc_now() + self.ahead

    def forward(self, **time: float) -> None:
        """Let time pass: `seconds=1`, `hours=6` and the like."""
        self.ahead += timedelta(**time)


class ShiftedStore(Layer):
    """A store whose clock goes with a test's; bytes keep the times that the driver gave them."""

    def __init__(self, driver: Driver, clock: ShiftedClock) -> None:
        super().__init__(driver)
        self._clock = clock

    async def now(self) -> datetime:
        """The driver's clock, as far ahead as the test's."""
        return await self._driver.now() + self._clock.ahead
