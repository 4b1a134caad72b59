"""The job sensor, executed both ways."""

from __future__ import annotations

from tests.unit.both_ways import both_ways
from tests.unit.sensors.factory import make_sensor

run = both_ways(make_sensor)
