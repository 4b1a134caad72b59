"""A sensor's two ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.sensors.deferral import WAYS
from tests.unit.supervisor import supervise
from tests.unit.support import make_context

if TYPE_CHECKING:
    from tests.unit.sensors.deferral import Way


@pytest.fixture(params=list(WAYS))
def follow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Way:
    """Execute a sensor, in a worker or deferred; the arguments are ``context`` and the sensor's own."""

    def executed(**options: Any) -> Any:
        context = options.pop("context", None) or make_context()
        supervise(context["ti"], monkeypatch)
        return WAYS[request.param](context["ti"], context, **options)

    return executed
