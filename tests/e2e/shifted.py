"""Prism opened with a clock that runs ahead, so that what is due in days is due now; bytes keep their own times."""

import contextlib
from datetime import timedelta

from prism.app import Wraps, open_app
from prism.config import load
from prism.identifiers import utc_now


class _Ahead:
    """A blob driver whose clock runs ahead; everything else is the driver's."""

    def __init__(self, driver, by):
        self._driver = driver
        self._by = by

    def __getattr__(self, name):
        return getattr(self._driver, name)

    async def now(self):
        return await self._driver.now() + self._by


@contextlib.asynccontextmanager
async def opened_ahead(config_file, data_dir, days):
    """The app of a configuration, `days` from now."""
    by = timedelta(days=days)
    config = load(config_file, {}, data_dir=data_dir)
    wraps = Wraps(blob=lambda driver: _Ahead(driver, by))
    async with open_app(config, now=lambda: utc_now() + by, wraps=wraps) as app:
        yield app
