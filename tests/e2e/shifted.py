"""Prism opened with a clock that runs ahead, so that what is due in days is due now; bytes keep their own times."""

import contextlib
from datetime import timedelta

from prism.app import Wraps, open_app
from prism.config import load
from prism.testing.clocks import ShiftedClock, ShiftedStore


@contextlib.asynccontextmanager
async def opened_ahead(config_file, data_dir, days):
    """The app of a configuration, `days` from now."""
    clock = ShiftedClock(timedelta(days=days))
    config = load(config_file, {}, data_dir=data_dir)
    wraps = Wraps(blob=lambda driver: ShiftedStore(driver, clock))
    async with open_app(config, now=clock, wraps=wraps) as app:
        yield app
