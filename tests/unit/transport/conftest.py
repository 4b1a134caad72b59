"""Both transports, for the tests of what they have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.support import make_agent as make_blocking_agent
from tests.unit.transports import LoopAgent

if TYPE_CHECKING:
    from tests.unit.transports import MakeAgent


@pytest.fixture(params=["blocking", "asyncio"])
def make_agent(request: pytest.FixtureRequest) -> MakeAgent:
    """Make each of the transports."""
    return make_blocking_agent if request.param == "blocking" else LoopAgent.make
