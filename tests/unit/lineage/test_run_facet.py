"""What a task gives to Airflow's OpenLineage provider, whose own classes ask for it here."""

from __future__ import annotations

import json
from collections import defaultdict
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import Asset, ObjectStoragePath
from airflow.utils.state import TaskInstanceState

from airflow_provider_rayagent.exceptions import RayAgentJobNotStartedError, RayAgentRunFailedError
from airflow_provider_rayagent.lineage.run_facet import FACET, cluster_of
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from airflow_provider_rayagent.services.jobs import MAX_TEXT
from tests.unit.lineage.support import LineageTaskInstance
from tests.unit.operators.conftest import ray
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import SUBMIT, make_rendered
from tests.unit.supervisor import supervise
from tests.unit.support import make_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scripted import ScriptedAgent
    from tests.unit.support import Connect

__all__ = ["ray"]

SECRET = "literal-s3cret"
DATA: dict[str, Any] = {"inlets": [Asset("file://rows/night")], "outlets": [Asset("file://models/rate")]}


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Any:
    events = defaultdict(lambda: SimpleNamespace(extra={}))  # type: ignore[var-annotated]
    context = make_context(LineageTaskInstance(), outlet_events=events)
    supervise(context["ti"], monkeypatch)
    return context


@pytest.fixture
def reported_asset() -> Iterator[None]:
    """An asset that a hook has reported, as storing an XCom in a file does."""
    from airflow.sdk import lineage

    readers = lineage.get_hook_lineage_collector
    readers.cache_clear()
    collector = lineage.HookLineageCollector()  # type: ignore[no-untyped-call]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lineage, "get_hook_lineage_collector", lambda: collector)
        collector.add_output_asset(context=ObjectStoragePath("file:///xcoms"), uri="file://xcoms/return_value")
        yield
    readers.cache_clear()


def extracted(operator: Any, state: TaskInstanceState, ti: Any = None) -> Any:
    """Return what the provider puts into its event."""
    from airflow.providers.openlineage.extractors import ExtractorManager

    dag_run = SimpleNamespace(dag_id="night", run_id="run-7")
    return ExtractorManager().extract_metadata(dag_run, operator, state, ti or LineageTaskInstance())


def facet_of(lineage: Any) -> dict[str, Any]:
    """Return the fields of our facet as they are sent, without what every facet has."""
    from openlineage.client.serde import Serde

    fields: dict[str, Any] = Serde.to_dict(lineage.run_facets[FACET])
    assert fields.pop("_producer").startswith("https://pypi.org/project/airflow-provider-rayagent/")
    assert fields.pop("_schemaURL").endswith("RunFacet")
    return fields


@pytest.mark.parametrize(
    ("url", "cluster"),
    [
        ("http://ray.example.com:8265/", "ray.example.com:8265"),
        ("https://ray.example.com/prefix/", "ray.example.com:443"),
        ("http://10.0.0.1/", "10.0.0.1:80"),
        ("http://[::1]:8265/", "[::1]:8265"),
    ],
)
def test_a_cluster_is_host_and_port(url: str, cluster: str) -> None:
    assert cluster_of(url) == cluster


def test_before_a_task_starts_its_events_have_what_it_will_do(ray: ScriptedAgent) -> None:
    operator = make_rendered(entrypoint="x" * (MAX_TEXT + 1), metadata={"team": "vision"}, **DATA)
    lineage = extracted(operator, TaskInstanceState.RUNNING)
    facet = facet_of(lineage)
    assert len(facet.pop("entrypoint")) < MAX_TEXT + 100
    assert facet == {"service": "ray", "cluster": cluster_of(ray.url), "metadata": {"team": "vision"}}
    assert [(each.namespace, each.name) for each in lineage.inputs] == [("file://rows", "/night")]
    assert [(each.namespace, each.name) for each in lineage.outputs] == [("file://models", "/rate")]


def test_a_sensor_knows_its_job_before_it_starts(connect: Connect) -> None:
    connect("http://agent.example.com")
    sensor = RayAgentJobSensor(task_id="follow", job_id="j1")
    facet = facet_of(extracted(sensor, TaskInstanceState.RUNNING))
    assert facet == {"jobId": "j1", "service": "agent", "cluster": "agent.example.com:80"}


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_when_a_task_has_ended_its_event_has_the_details_of_the_job_without_secrets(
    status: str, ray: ScriptedAgent, context: Any
) -> None:
    details = {
        "entrypoint": f"python train.py {SECRET}",
        "start_time": 1_767_225_600_000,
        "end_time": 1_767_225_612_500,
    }
    ray.answers[SUBMIT] = [starting(ray, status=status, details=details)]
    operator = make_rendered(deferrable=False, runtime_env={"env_vars": {"A": SECRET}}, **DATA)
    if status == "FAILED":
        with pytest.raises(RayAgentRunFailedError):
            operator.execute(context)
        lineage = extracted(operator, TaskInstanceState.FAILED)
    else:
        operator.execute(context)
        lineage = extracted(operator, TaskInstanceState.SUCCESS)
    facet = facet_of(lineage)
    assert facet == {
        "jobId": ROOT,
        "service": "ray",
        "cluster": cluster_of(ray.url),
        "entrypoint": "python train.py ***",
        "status": status,
        "startTime": "2026-01-01T00:00:00+00:00",
        "endTime": "2026-01-01T00:00:12.500000+00:00",
    }
    assert len(lineage.outputs) == 1


def test_a_job_that_has_not_started_is_named(ray: ScriptedAgent, context: Any) -> None:
    ray.answers[SUBMIT] = [starting(ray, first="PENDING", timeline=[])]
    operator = make_rendered(deferrable=False, start_timeout=0.2)
    with pytest.raises(RayAgentJobNotStartedError):
        operator.execute(context)
    facet = facet_of(extracted(operator, TaskInstanceState.FAILED))
    assert (facet["jobId"], facet["status"]) == (ROOT, "PENDING")


def test_outlets_are_in_the_event_though_a_hook_has_reported_an_asset(ray: ScriptedAgent, reported_asset: None) -> None:
    lineage = extracted(make_rendered(**DATA), TaskInstanceState.SUCCESS)
    assert [each.name for each in lineage.outputs] == ["/rate"]
    assert [each.name for each in lineage.inputs] == ["/night"]
    # Without any of its own, the provider reports what it otherwise does.
    lineage = extracted(make_rendered(), TaskInstanceState.SUCCESS)
    assert [each.name for each in lineage.outputs] == ["/return_value"]


def test_a_task_without_a_connection_has_an_event_all_the_same() -> None:
    operator = make_rendered(rayagent_conn_id="not_there", **DATA)
    lineage = extracted(operator, TaskInstanceState.RUNNING)
    assert FACET not in lineage.run_facets
    assert len(lineage.outputs) == 1


def test_the_facet_of_the_whole_task_has_no_environment(ray: ScriptedAgent, context: Any) -> None:
    from airflow.providers.openlineage.utils.utils import TaskInfoComplete

    operator = make_rendered(deferrable=False, runtime_env={"env_vars": {"A": SECRET}})
    operator.execute(context)
    assert SECRET not in json.dumps(dict(TaskInfoComplete(operator)), default=str)
