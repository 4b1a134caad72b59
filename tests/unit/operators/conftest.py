"""Short pauses for the operators that start jobs, and the operator that runs a plugin, executed both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import ScriptedAgent
from tests.unit.both_ways import execute
from tests.unit.operators import submissions
from tests.unit.operators.plugin_runs import make_operator
from tests.unit.supervisor import supervise
from tests.unit.support import make_context, shorten_job_checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.support import Connect


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_job_checks(monkeypatch)


@pytest.fixture(params=["worker", "deferred"])
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Execute an operator, in a worker or deferred; the arguments are ``context`` and the operator's own."""

    def executed(**options: Any) -> Any:
        context = options.pop("context", None) or make_context()
        supervise(context["ti"], monkeypatch)
        return execute(lambda: make_operator(deferrable=request.param == "deferred", **options), context)

    return executed


@pytest.fixture
def ray(connect: Connect) -> Any:
    """Ray's dashboard, which starts the job that is submitted."""
    with ScriptedAgent(service="ray") as server:
        connect(server, extra={"service": "ray"}, password="")
        server.answers[submissions.SUBMIT] = [submissions.starting(server)]
        yield server
