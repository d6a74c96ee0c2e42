"""What a probe found that one server can, which counts more than what its kind usually can.

Compatibles differ: one ignores `If-None-Match`, another honours conditional deletes. `prism doctor` tries, and the
record of what it found changes what the driver declares. It never adds a power that the driver has no code for.
"""

import msgspec

from ..model import Bindable
from .driver import Capabilities, ConditionalDeletePower, CopyPower, Driver, MultipartPower, SignPower
from .layers import Layer

__all__ = ["Abilities", "Found"]


class Abilities(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried and is now known of one server."""

    conditional_put: bool
    conditional_delete: bool
    copy: bool
    multipart: bool
    sign: bool
    binds: tuple[Bindable, ...] = ()

    def apply(self, driver: Driver) -> Capabilities:
        """The capabilities of this server, driven by `driver`."""
        usual = driver.capabilities
        return msgspec.structs.replace(
            usual,
            conditional_put=self.conditional_put,
            conditional_delete=self.conditional_delete and isinstance(driver, ConditionalDeletePower),
            copy=self.copy and isinstance(driver, CopyPower),
            multipart=self.multipart and isinstance(driver, MultipartPower),
            sign=self.sign and isinstance(driver, SignPower),
            binds=frozenset(self.binds) & (usual.binds | usual.may_bind),
        )


class Found(Layer):
    """A driver that declares what was found."""

    def __init__(self, driver: Driver, found: Abilities) -> None:
        super().__init__(driver)
        self._declared = found.apply(driver)

    @property
    def capabilities(self) -> Capabilities:
        """As found."""
        return self._declared
