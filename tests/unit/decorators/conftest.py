"""A cluster that runs functions."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.unit.decorators.cluster import run_job
from tests.unit.operators.submissions import SUBMIT
from tests.unit.support import shorten_job_checks

if TYPE_CHECKING:
    from tests.scripted import ScriptedAgent
    from tests.unit.support import Serve


@pytest.fixture(autouse=True)
def _short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_job_checks(monkeypatch)


@pytest.fixture
def ray(serve: Serve) -> ScriptedAgent:
    """Ray's dashboard, which runs the job that is submitted."""
    server = serve(service="ray", password="")
    server.answers[SUBMIT] = [partial(run_job, server)]
    return server
