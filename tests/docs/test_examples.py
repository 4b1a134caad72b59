"""Every example DAG is on a page and does what it says; those that submit jobs are tested in the suite `system`."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.conftest import PAGES, ROOT, run
from tests.docs.run_dags import MARK
from tests.scripted import Answer, Application, Job, ScriptedAgent
from tests.stack.airflow import migrate_database
from tests.stack.postgres import postgres
from tests.unit.clusters import NODES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scripted import Request

EXAMPLES = ROOT / "example_dags"
TOKEN = "agent-s3cret-token"
RUN_PLUGIN = "POST plugin_releases/train@1.0/run/"
RESULT = '__SYNAPSE_RESULT_START__{"epochs": 5, "loss": 0.5}__SYNAPSE_RESULT_END__\n'
LOG = "step 1 of 2\nERROR step 2 went wrong\n"
STOPPED_AT = 600
"""The epochs of a training that is stopped, after which there is no retry."""
TONIGHT = [f"watch-{datetime.now(timezone.utc) + timedelta(days=days):%Y%m%d}" for days in (0, 1)]
"""The evaluations that a run without ``night`` may stop: midnight can pass meanwhile."""
TIMES = {"start_time": 1_767_225_600_000, "end_time": 1_767_225_612_500}
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "many": ("rayagent_follow_many", {"job_ids": ["first", "second"]}),
    "own operator": ("rayagent_own_operator", {"job_id": "done"}),
    "plugin": ("rayagent_run_plugin", {"epochs": 5}),
    "wait": ("rayagent_wait_for_application", {"name": "other"}),
    "capacity": ("rayagent_wait_for_gpus", {}),
    "delete": ("rayagent_delete_serve_application", {"name": "application"}),
    "night": ("rayagent_nightly", {"application": "other"}),
    "stopped night": ("rayagent_nightly", {"night": "20260131", "epochs": STOPPED_AT, "old_application": "kept"}),
    "fan out": ("rayagent_fan_out", {"epochs": [7, 8]}),
    "hook": ("rayagent_report_cluster", {"job_id": "done"}),
    "asyncio hook": ("rayagent_compare_jobs", {"job_ids": ["timed"]}),
}
"""Those of the examples that the suite `system` does not run."""


@dataclass(frozen=True)
class Ended:
    """What came of a run.

    :param tasks: the states of its tasks.
    :param printed: all that was printed meanwhile, the task logs included.
    """

    state: str
    tasks: dict[str, str]
    printed: str


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment variables that name an Airflow's home and its database."""
    with postgres() as server:
        url = server.create_database("airflow")
        home = tmp_path_factory.mktemp("airflow-home")
        variables = {"AIRFLOW_HOME": str(home), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": url}
        migrate_database(os.environ | variables)
        yield variables


@pytest.fixture(scope="module")
def agent() -> Any:
    """An agent with a job or an application for each run."""
    jobs = [
        Job(LOG, job_id="done"),
        *(
            Job(f"line of {name}\n", polls=["RUNNING", "RUNNING", "SUCCEEDED"], job_id=name)
            for name in ("first", "second")
        ),
        *(Job(LOG, "RUNNING", job_id=job_id) for job_id in ("watch-20260131", *TONIGHT)),
        Job(job_id="timed", details=TIMES),
    ]
    apps = [Application(name) for name in ("application", "canary", "kept", "other")]
    with ScriptedAgent(*jobs, applications=apps, nodes=NODES, token=TOKEN) as agent:

        def start(request: Request) -> Answer:
            body = json.loads(request.body)
            job_id = body["job_id"]
            # The example renders no native values.
            status = "STOPPED" if body["params"].get("epochs") == str(STOPPED_AT) else "SUCCEEDED"
            agent.jobs[job_id] = Job(LOG + RESULT, status, job_id)
            return Answer(200, {"job_id": job_id})

        agent.answers[RUN_PLUGIN] = [start]
        yield agent


@pytest.fixture(scope="module")
def ended(database: dict[str, str], agent: ScriptedAgent) -> dict[str, Ended]:
    """What came of each of :data:`RUNS`."""
    found = run_dags(database, agent.url, TOKEN, *RUNS.values())
    return dict(zip(RUNS, found, strict=True))


def run_dags(database: dict[str, str], url: str, token: str, *runs: tuple[str, dict[str, Any]]) -> list[Ended]:
    """Run example DAGs one after the other; return what came of each."""
    settings = {
        **database,
        "AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_RAYAGENT_DEFAULT": json.dumps({"conn_type": "rayagent", "host": url, "password": token}),
        "NO_PROXY": "127.0.0.1",
    }
    arguments = [argument for name, conf in runs for argument in (name, json.dumps(conf))]
    printed = run(sys.executable, "-m", "tests.docs.run_dags", *arguments, **settings)
    assert token not in printed
    pieces = re.split(rf"^{MARK}(.*)$", printed, flags=re.MULTILINE)
    return [Ended(**json.loads(told), printed=text) for text, told in zip(pieces[::2], pieces[1::2], strict=False)]


def test_every_example_is_on_a_page_and_runs_in_a_test() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES.glob("*.md"))
    shown = set(re.findall(r"```\{literalinclude\} \.\./example_dags/(\w+)\.py", text))
    system_tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "system").glob("*.py"))
    started = set(re.findall(r"\"(rayagent_\w+)\"", system_tests)) & shown
    assert shown == {path.stem for path in EXAMPLES.glob("*.py")}
    assert shown == {name for name, _ in RUNS.values()} | started


def test_many_jobs_are_followed_by_mapped_deferred_sensors(ended: dict[str, Ended]) -> None:
    assert ended["many"].state == "success"
    assert all(f"line of {name}" in ended["many"].printed for name in ("first", "second"))
    assert "the triggerer follows job first" in ended["many"].printed


def test_the_trigger_follows_a_job_for_an_operator_of_ones_own(ended: dict[str, Ended]) -> None:
    assert ended["own operator"].tasks == {"retrain": "success"}
    assert all(line in ended["own operator"].printed for line in LOG.splitlines())


def test_a_plugin_is_run_and_its_result_used(ended: dict[str, Ended], agent: ScriptedAgent) -> None:
    assert ended["plugin"].tasks == {"train": "success", "keep_loss": "success"}
    sent = [json.loads(request.body)["params"] for request in agent.of(RUN_PLUGIN)]
    assert sent.count({"epochs": 5}) == 1
    assert "Returned value was: 0.5" in ended["plugin"].printed


def test_an_application_is_waited_for(ended: dict[str, Ended]) -> None:
    assert ended["wait"].tasks == {"wait_for_application": "success"}
    assert "The Serve application 'other' is RUNNING." in ended["wait"].printed


def test_free_gpus_are_waited_for(ended: dict[str, Ended]) -> None:
    assert ended["capacity"].tasks == {"wait_for_gpus": "success", "train": "success"}
    assert "Free: 4 GPUs. Required: 4 GPUs with accelerator A100. Nothing is missing." in ended["capacity"].printed


def test_the_delete_operator_deletes_one_application(ended: dict[str, Ended], agent: ScriptedAgent) -> None:
    assert ended["delete"].tasks == {"delete_application": "success"}
    assert agent.applications["application"].deleted is not None
    assert agent.applications["other"].deleted is None


def test_a_nights_work_is_done(ended: dict[str, Ended], agent: ScriptedAgent) -> None:
    assert set(ended["night"].tasks.values()) == {"success"}
    assert "STOPPED" in [agent.jobs[job_id].status for job_id in TONIGHT]
    assert agent.applications["canary"].deleted is not None


def test_a_night_whose_training_is_stopped_keeps_the_old_application_and_stops_the_evaluation(
    ended: dict[str, Ended], agent: ScriptedAgent
) -> None:
    assert ended["stopped night"].tasks == {
        "train": "failed",
        "check_deployment": "upstream_failed",
        "delete_old_application": "upstream_failed",
        "stop_evaluation": "success",
    }
    assert agent.jobs["watch-20260131"].status == "STOPPED"
    assert agent.applications["kept"].deleted is None


def test_a_plugin_is_run_for_each_of_many_parameters(ended: dict[str, Ended], agent: ScriptedAgent) -> None:
    assert set(ended["fan out"].tasks.values()) == {"success"}
    sent = [json.loads(request.body)["params"]["epochs"] for request in agent.of(RUN_PLUGIN)]
    assert {7, 8} <= set(sent)


def test_the_hook_reports_a_cluster_and_searches_a_log(ended: dict[str, Ended]) -> None:
    assert ended["hook"].tasks == {"report_cluster": "success", "find_in_log": "success"}
    assert "ERROR step 2 went wrong" in ended["hook"].printed


def test_the_asyncio_hook_compares_jobs(ended: dict[str, Ended]) -> None:
    assert ended["asyncio hook"].tasks == {"compare_jobs": "success"}
    assert "{'timed': 12.5}" in ended["asyncio hook"].printed
