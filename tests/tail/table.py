"""The table: its rows by service, its columns, and its cells."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.tail.columns import DRIVERS, RAY_DRIVERS
from tests.tail.drivers import PROTOCOLS, RAY
from tests.tail.faults import FAULTS
from tests.tail.ray_faults import RAY_FAULTS

if TYPE_CHECKING:
    from tests.tail.stage import Fault


class Cell(NamedTuple):
    """A cell of the table.

    :param fault: the row's name.
    :param driver: the driver's name.
    :param protocol: one of an agent's, or :data:`RAY`.
    """

    fault: str
    driver: str
    protocol: str

    @property
    def row(self) -> Fault:
        return (RAY_FAULTS if self.protocol == RAY else FAULTS)[self.fault]

    @property
    def is_cluster(self) -> bool:
        """Whether the connection is one with several clusters: that of every second cell."""
        return zlib.crc32(" ".join(self).encode()) % 2 == 0


CELLS = [
    *(Cell(fault, driver, protocol) for fault in FAULTS for driver in DRIVERS for protocol in PROTOCOLS),
    *(Cell(fault, driver, RAY) for fault in RAY_FAULTS for driver in RAY_DRIVERS),
]
# The sensor has the same follower as the hook.
CELLS_BY_LEVEL = [pytest.param(cell, marks=pytest.mark.full if cell.driver == "sensor" else ()) for cell in CELLS]
