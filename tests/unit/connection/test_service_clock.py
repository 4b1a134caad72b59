"""The estimate of a service's clock."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.connection.service_clock import ServiceClock
from airflow_provider_rayagent.errors.service_errors import RayAgentHTTPError
from airflow_provider_rayagent.services.call import Call
from tests.scripted import Answer
from tests.unit.support import make_agent

if TYPE_CHECKING:
    from tests.unit.support import Serve


class Clocks:
    """A monotonic clock, and a service's clock that is ahead of it."""

    def __init__(self, ahead: float = 1_700_000_000.25) -> None:
        self.now, self.ahead = 1_000.0, ahead
        self.estimate = ServiceClock(lambda: self.now)

    def respond(self, stale: float = 0.0) -> None:
        self.estimate.note(formatdate(self.now + self.ahead - stale, usegmt=True))

    def since(self, seconds: float) -> float:
        """Return the estimate for a moment that many seconds ago."""
        found = self.estimate.seconds_since(self.now + self.ahead - seconds)
        assert found is not None
        return found


@pytest.mark.parametrize("date", [None, "", "yesterday", "Tue, 15 Nov 99999 08:12:31 GMT", "0" * 5000])
def test_without_a_usable_date_the_clock_is_unknown(date: str | None) -> None:
    clocks = Clocks()
    clocks.estimate.note(date)
    assert clocks.estimate.seconds_since(0) is None


def test_the_estimate_is_a_lower_bound_that_becomes_better() -> None:
    clocks, dice = Clocks(), random.Random(1)
    errors = []
    for _ in range(40):
        clocks.now += dice.uniform(0.1, 5)
        clocks.respond(stale=dice.uniform(0, 0.3))
        errors.append(2.0 - clocks.since(2.0))
    assert min(errors) >= 0
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.3 < errors[0]


def test_a_late_response_does_not_make_the_estimate_worse() -> None:
    clocks = Clocks()
    clocks.respond()
    before = clocks.since(5)
    clocks.now += 10
    clocks.respond(stale=0.9)
    assert clocks.since(5) == before


def test_a_clock_that_was_set_back_is_followed() -> None:
    clocks = Clocks()
    clocks.respond()
    clocks.ahead -= 3600
    clocks.now += 5
    clocks.respond()
    assert 4 <= clocks.since(5) <= 5


@pytest.mark.parametrize("status", [200, 503])
def test_every_response_is_used_even_an_error(serve: Serve, status: int) -> None:
    agent = serve(answers={"*": [Answer(status, {}, {"Date": formatdate(time.time() - 3600, usegmt=True)})]})
    client = make_agent(agent)
    with suppress(RayAgentHTTPError):
        client.send(Call("GET", "jobs/"))
    client.close()
    assert client.config.clock.seconds_since(time.time() - 3600) == pytest.approx(0, abs=600)
