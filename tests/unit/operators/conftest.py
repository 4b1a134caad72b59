"""For the operators that start jobs: short pauses, and what they ask; the plugin's operator executed both ways."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.both_ways import both_ways
from tests.unit.operators.plugin_runs import RUN, make_operator
from tests.unit.operators.started_jobs import starting
from tests.unit.operators.submissions import SUBMIT
from tests.unit.support import shorten_job_checks

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.support import Serve

run = both_ways(make_operator)


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_job_checks(monkeypatch)


@pytest.fixture
def agent(serve: Serve) -> ScriptedAgent:
    """An agent that starts the job of the plugin."""
    server = serve()
    server.answers[RUN] = [starting(server)]
    return server


@pytest.fixture
def ray(serve: Serve) -> ScriptedAgent:
    """Ray's dashboard, which starts the job that is submitted."""
    server = serve(service="ray", password="")
    server.answers[SUBMIT] = [starting(server)]
    return server
