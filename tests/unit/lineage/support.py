"""What the tests of OpenLineage share: this Airflow's transport, a task instance, and a client in a job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from tests.unit.support import TaskInstance

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

NOON = datetime(2026, 11, 30, 12, tzinfo=timezone.utc)
HTTP = {"type": "http", "url": "http://lineage.example.com:5000"}


@dataclass
class LineageTaskInstance(TaskInstance):
    """A task instance of which the provider asks for its DAG run."""

    def get_template_context(self) -> dict[str, Any]:
        return {"dag_run": SimpleNamespace(logical_date=NOON, run_after=NOON, clear_number=0, conf={})}


def set_transport(monkeypatch: pytest.MonkeyPatch, transport: Mapping[str, Any]) -> None:
    """Let this Airflow send its events so."""
    from airflow.providers.openlineage.plugins import listener

    monkeypatch.setenv("AIRFLOW__OPENLINEAGE__TRANSPORT", json.dumps(transport))
    # It keeps the client with the transport that it was made with.
    listener.get_openlineage_listener.cache_clear()


def transport_in_job(monkeypatch: pytest.MonkeyPatch, env_vars: Mapping[str, str]) -> Any:
    """Return the transport of an OpenLineage client in a process with these environment variables."""
    from openlineage.client import OpenLineageClient

    with monkeypatch.context() as patch:
        for name, value in env_vars.items():
            patch.setenv(name, value)
        return OpenLineageClient().transport
