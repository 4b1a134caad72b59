"""Both transports, for tests that apply to each."""

from __future__ import annotations

import pytest

from tests.unit.client.transports import TRANSPORTS, Transport


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    return TRANSPORTS[request.param]
