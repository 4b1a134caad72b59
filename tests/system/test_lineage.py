"""The OpenLineage events and the spans of a real Airflow, and those of the jobs that its tasks submit."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import pytest

from tests.stack.airflow import airflow
from tests.stack.lineage import LineageReceiver, lineage_receiver
from tests.stack.traces import SpanReceiver, span_receiver
from tests.stack.watch import wait_until
from tests.system.conftest import EXAMPLES
from tests.system.support import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.agent import LocalAgent
    from tests.stack.lineage import Received

pytestmark = pytest.mark.full

KEY = "key-of-the-lineage-service"
TENANT = "secret-name-of-the-tenant"
FILE = "events.json"
MODES = ("worker", "deferred")
DAG_FILE = f"""
from airflow.sdk import DAG, Asset, task
from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator, RayAgentSubmitJobOperator
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

REPORTS = dict(
    entrypoint="{sys.executable} report_run.py && printenv | grep OPENLINEAGE",
    working_dir="lineage",
    openlineage_inject_parent_job_info=True,
    openlineage_inject_transport_info=True,
    inlets=[Asset("file://rows/night")],
    outlets=[Asset("file://models/rate")],
)


class LosesItsFirstTry(RayAgentSubmitJobOperator):
    def _follow_in_worker(self, context, run):
        if context["ti"].try_number == 1:
            raise RuntimeError("this worker is lost")
        return super()._follow_in_worker(context, run)


with DAG("lineage", schedule=None, default_args={{"deferrable": False}}):
    for mode in {MODES}:
        submit = RayAgentSubmitJobOperator(task_id=mode, deferrable=mode == "deferred", **REPORTS)
        submit >> RayAgentJobSensor(
            task_id=f"follow_{{mode}}",
            job_id=f"{{{{{{{{ ti.xcom_pull('{{mode}}', key='job_id') }}}}}}}}",
            deferrable=mode == "deferred",
        )
    LosesItsFirstTry(task_id="retried", retries=1, retry_delay=0, **REPORTS)
    mapped = RayAgentSubmitJobOperator.partial(task_id="mapped", **REPORTS)
    mapped.expand(metadata=[{{"part": "one"}}, {{"part": "two"}}])
    RayAgentSubmitJobOperator(task_id="fails", entrypoint="echo broken; exit 3")
    RayAgentRunPluginOperator(task_id="plugin", rayagent_conn_id="agent", lookup="train@1.0", action="train")

    @task.ray
    def function() -> int:
        return 1

    function()
    RayAgentSubmitJobOperator(task_id="traced", entrypoint="{sys.executable} traced.py", working_dir="traced")

    @task.ray
    def traced_function() -> None:
        import os
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor

        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(os.environ["SPANS"])))
        with provider.get_tracer("job").start_as_current_span("in the function"):
            pass

    traced_function.override(runtime_env={{"env_vars": {{"SPANS": "SPANS_URL"}}}})()
"""
TRACED = """
import os
from opentelemetry import context, propagate

carrier = {name: os.environ.get(name.upper(), "") for name in ("traceparent", "tracestate")}
context.attach(propagate.extract(carrier))

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter("SPANS_URL")))
with provider.get_tracer("job").start_as_current_span("in the program"):
    pass
"""
"""A program with the lines of the documentation."""


class Run(NamedTuple):
    """A run of the DAG, which has ended, and all events."""

    tasks: dict[str, Task]
    events: LineageReceiver
    spans: SpanReceiver
    ray: str
    file: Path

    def ends(self, task_id: str) -> list[Received]:
        """Return the last event of each try or mapped instance of a task."""
        return self.events.of(f"lineage.{task_id}", "COMPLETE", "FAIL")

    def end(self, task_id: str) -> Received:
        (end,) = self.ends(task_id)
        return end

    def reported(self) -> list[Received]:
        """Return the events that the program of the jobs has sent."""
        return self.events.of("train", "COMPLETE")


@pytest.fixture(scope="module")
def run(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Every task has ended, and sent its last event. In an Airflow of its own: each task of it imports the provider."""
    folder = tmp_path_factory.mktemp("lineage")
    shutil.copytree(EXAMPLES / "jobs" / "lineage", folder / "lineage")
    token = Path(agent.ray_token_file).read_text(encoding="utf-8").strip() if agent.ray_token_file else None
    connections: dict[str, Any] = {
        "rayagent_default": {
            "conn_type": "rayagent",
            "host": agent.ray_address,
            "password": token,
            "extra": {"service": "ray"},
        },
        "agent": {"conn_type": "rayagent", "host": agent.url, "password": agent.token},
    }
    with lineage_receiver() as events, span_receiver() as spans:
        (folder / "traced").mkdir()
        (folder / "traced" / "traced.py").write_text(TRACED.replace("SPANS_URL", spans.url), encoding="utf-8")
        (folder / "lineage_dag.py").write_text(DAG_FILE.replace("SPANS_URL", spans.url), encoding="utf-8")
        service = {
            "type": "http",
            "url": events.url,
            "auth": {"type": "api_key", "apiKey": KEY},
            "custom_headers": {"X-Tenant": TENANT},
        }
        # In this order: what the service has received is in the file, which a job does not get.
        file = {"type": "file", "log_file_path": str(folder / FILE), "append": True}
        transport = {"type": "composite", "transports": {"file": file, "service": service}}
        settings = {
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "nights/airflow",
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            **spans.settings,
        }
        with airflow(folder, connections=connections, settings=settings) as running:
            run_id = running.trigger("lineage")
            running.wait_for_run("lineage", run_id)
            names = [(each["task_id"], each["map_index"]) for each in running.task_instances("lineage", run_id)]
            tasks = {
                name + (f"[{index}]" if index >= 0 else ""): Task(running, "lineage", run_id, name, index)
                for name, index in names
            }
            run = Run(tasks, events, spans, agent.ray_address, folder / FILE)
            counts = {name: 1 for name, _index in names} | {"retried": 2, "mapped": 2}
            # A task sends its last event after its state.
            wait_until(
                lambda: all(len(run.ends(name)) == count for name, count in counts.items()) or None,
                lambda: f"not all events are there: {[(name, len(run.ends(name))) for name in counts]}",
            )
            yield run


@pytest.mark.parametrize("mode", MODES)
def test_the_events_of_a_task_name_its_job_and_its_data(run: Run, mode: str) -> None:
    start, end = run.events.of(f"lineage.{mode}", "START")[0], run.end(mode)

    assert end.event["eventType"] == "COMPLETE", run.tasks[mode].text()
    assert start.run_id == end.run_id
    facet = end.facets["rayagent_job"]
    cluster = urlsplit(run.ray).netloc
    assert (facet["jobId"], facet["status"]) == (run.tasks[mode].xcom("job_id"), "SUCCEEDED")
    assert (facet["service"], facet["cluster"]) == ("ray", cluster)
    assert facet["metadata"]["airflow_task_id"] == mode
    assert facet["startTime"] < facet["endTime"]
    known = start.facets["rayagent_job"]
    assert (known["service"], known["cluster"], known["entrypoint"]) == ("ray", cluster, facet["entrypoint"])
    for event in (start.event, end.event):
        assert [(each["namespace"], each["name"]) for each in event["inputs"]] == [("file://rows", "/night")]
        assert [(each["namespace"], each["name"]) for each in event["outputs"]] == [("file://models", "/rate")]


@pytest.mark.parametrize("mode", MODES)
def test_a_sensors_events_name_the_job_from_the_first_on(run: Run, mode: str) -> None:
    job_id = run.tasks[mode].xcom("job_id")
    events = run.events.of(f"lineage.follow_{mode}")
    assert {each.facets["rayagent_job"]["jobId"] for each in events} == {job_id}
    assert run.end(f"follow_{mode}").facets["rayagent_job"]["status"] == "SUCCEEDED"


def test_every_way_to_start_a_job_has_the_facet(run: Run) -> None:
    facets = {name: run.end(name).facets["rayagent_job"] for name in ("fails", "plugin", "function")}
    found = {name: (facet["jobId"], facet["service"], facet["status"]) for name, facet in facets.items()}
    services = {"fails": ("ray", "FAILED"), "plugin": ("agent", "SUCCEEDED"), "function": ("ray", "SUCCEEDED")}
    assert found == {name: (run.tasks[name].xcom("job_id"), *expected) for name, expected in services.items()}
    failed = run.end("fails")
    assert failed.event["eventType"] == "FAIL"
    assert facets["fails"]["jobId"] in failed.facets["errorMessage"]["message"]


def test_what_the_program_of_a_job_reports_has_the_try_that_started_the_job_as_parent(run: Run) -> None:
    first, second = run.ends("retried")
    assert [each.event["eventType"] for each in (first, second)] == ["FAIL", "COMPLETE"]
    job_ids = {each.facets["rayagent_job"]["jobId"] for each in (first, second)}
    assert job_ids == {run.tasks["retried"].xcom("job_id")}

    starting = [run.end("worker"), run.end("deferred"), first, *run.ends("mapped")]
    reported = run.reported()
    assert sorted(each.parent for each in reported) == sorted(each.run_id for each in starting)
    dag_run = {each.parent for each in starting}
    for each in reported:
        parent = each.facets["parent"]
        assert parent["job"]["namespace"] == parent["root"]["job"]["namespace"] == "nights/airflow"
        assert parent["root"]["job"]["name"] == "lineage"
        assert {parent["root"]["run"]["runId"]} == dag_run
    names = {each.run_id: each.event["job"]["name"] for each in starting}
    assert all(each.facets["parent"]["job"]["name"] == names[each.parent] for each in reported)


def test_the_file_transport_has_the_same_events_of_airflow_and_the_job_does_not_get_it(run: Run) -> None:
    written = [json.loads(line) for line in run.file.read_text(encoding="utf-8").splitlines()]
    received = [each.event for each in run.events.received if each.event["job"]["name"] != "train"]
    assert all(event in written for event in received)
    assert "train" not in {event["job"]["name"] for event in written}
    assert "OpenLineage's transport 'file'" in run.tasks["worker"].text()


def test_the_program_sends_with_airflows_credentials_which_are_shown_nowhere(run: Run) -> None:
    assert {each.headers["Authorization"] for each in run.reported()} == {f"Bearer {KEY}"}
    assert {each.headers["X-Tenant"] for each in run.reported()} == {TENANT}
    for name in ("worker", "deferred", "follow_worker", "follow_deferred", "mapped[1]"):
        task = run.tasks[name]
        # The job prints its environment.
        assert "OPENLINEAGE__TRANSPORT__AUTH__API_KEY=***" in task.forwarded() + task.deferred()
        shown = json.dumps([task.text(), task.xcom(), task.instance()])
        assert [secret for secret in (KEY, TENANT) if secret in shown] == []
    # Airflow repeats what a task prints, unmasked, on the output of what runs it.
    assert files_with(run.tasks["worker"].airflow.home, KEY, TENANT) <= {"scheduler.log"}
    # Of our facets; Airflow's provider redacts its own.
    assert not [each for each in run.events.received if KEY in json.dumps(each.event)]


@pytest.mark.parametrize(("task_id", "span"), [("traced", "in the program"), ("traced_function", "in the function")])
def test_the_spans_of_a_job_are_in_the_trace_of_its_task(run: Run, task_id: str, span: str) -> None:
    assert f"worker.{task_id}" in run.spans.ancestors(span), run.spans.described()


def test_the_documentation_has_the_lines_of_the_program() -> None:
    lines = TRACED.split("\n\nfrom opentelemetry.exporter", maxsplit=1)[0].strip()
    assert lines in (EXAMPLES.parent / "docs" / "operations.md").read_text(encoding="utf-8")


def files_with(folder: Path, *texts: str) -> set[str]:
    paths = [Path(parent, name) for parent, _folders, names in os.walk(folder) for name in names]
    return {path.name for path in paths if any(text.encode() in path.read_bytes() for text in texts)}
