"""Every example DAG of the pages can be read by Airflow, and runs as the page says."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.conftest import PAGES, ROOT, run
from tests.scripted import Application, Job, ScriptedAgent
from tests.stack.agent import local_agent

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLES = {path.stem: path for path in sorted((ROOT / "example_dags").glob("*.py"))}
TOKEN = "agent-s3cret-token"
LOG = "step 1 of 2\nERROR step 2 went wrong\n"
TIMES = {"start_time": 1_767_225_600_000, "end_time": 1_767_225_612_500}


def agent_with(*jobs: Job, **parts: Any) -> ScriptedAgent:
    return ScriptedAgent(*jobs, token=TOKEN, **parts)


def run_example(
    name: str, home: Path, url: str, conf: dict[str, Any] | None = None, token: str = TOKEN, **extra: Any
) -> tuple[dict[str, Any], str]:
    """Run an example's DAG; return what came of it, and all that was printed."""
    connection = {"conn_type": "rayagent", "host": url, "password": token, "extra": extra}
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_RAYAGENT_DEFAULT": json.dumps(connection),
        "NO_PROXY": "127.0.0.1",
    }
    printed = run(sys.executable, "-m", "tests.docs.run_dag", EXAMPLES[name], json.dumps(conf or {}), **settings)
    ended: dict[str, Any] = json.loads(printed.splitlines()[-1])
    assert token not in printed
    return ended, printed


def test_every_example_is_on_a_page_and_runs_in_a_test() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES.glob("*.md"))
    shown = set(re.findall(r"```\{literalinclude\} \.\./example_dags/(\w+)\.py", text))
    tested = set(re.findall(r'run_example\(\s*"(\w+)"', (ROOT / "tests/docs/test_examples.py").read_text()))

    assert shown == tested == set(EXAMPLES)


def test_the_sensor_follows_a_job_and_links_to_its_page(airflow_home: Path) -> None:
    with agent_with(Job(LOG, job_id="job-id")) as agent:
        ended, printed = run_example(
            "rayagent_follow_job", airflow_home, agent.url, job_url="https://ray.example.com/#/jobs/{job_id}"
        )
    assert ended == {"state": "success", "tasks": {"follow_job": "success"}}
    assert all(line in printed for line in LOG.splitlines())


def test_the_sensor_is_red_when_the_job_failed(airflow_home: Path) -> None:
    with agent_with(Job(LOG, "FAILED", job_id="job-id")) as agent:
        ended, printed = run_example("rayagent_follow_job", airflow_home, agent.url)
    assert ended == {"state": "failed", "tasks": {"follow_job": "failed"}}
    assert "Job job-id ended as FAILED" in printed


def test_many_jobs_are_followed_by_mapped_deferred_sensors(airflow_home: Path) -> None:
    jobs = [
        Job(f"line of {name}\n", "RUNNING", job_id=name, polls=["RUNNING", "RUNNING", "SUCCEEDED"]) for name in "ab"
    ]
    with agent_with(*jobs) as agent:
        ended, printed = run_example("rayagent_follow_many", airflow_home, agent.url, {"job_ids": ["a", "b"]})
    assert ended["state"] == "success"
    assert all(f"line of {name}" in printed for name in "ab")


def test_the_trigger_follows_a_job_for_an_operator_of_ones_own(airflow_home: Path) -> None:
    with agent_with(Job(LOG, job_id="job-id")) as agent:
        ended, printed = run_example("rayagent_own_operator", airflow_home, agent.url)
    assert ended == {"state": "success", "tasks": {"retrain": "success"}}
    assert all(line in printed for line in LOG.splitlines())


def test_the_stop_operator_stops_a_job(airflow_home: Path) -> None:
    job = Job(LOG, "RUNNING", job_id="job-id")
    with agent_with(job) as agent:
        ended, _ = run_example("rayagent_stop_job", airflow_home, agent.url)
    assert ended == {"state": "success", "tasks": {"stop_job": "success"}}
    assert job.status == "STOPPED"


def test_the_delete_operator_deletes_one_application(airflow_home: Path) -> None:
    apps = [Application("application"), Application("other")]
    with agent_with(applications=apps) as agent:
        ended, _ = run_example("rayagent_delete_serve_application", airflow_home, agent.url)
    assert ended == {"state": "success", "tasks": {"delete_application": "success"}}
    assert [app.deleted is not None for app in apps] == [True, False]


def test_a_nights_work_is_done(airflow_home: Path) -> None:
    watch = Job(LOG, "RUNNING", job_id="watch-20260131")
    canary = Application("canary")
    with agent_with(Job(LOG, job_id="train-20260131"), watch, applications=[canary]) as agent:
        ended, _ = run_example("rayagent_nightly", airflow_home, agent.url, {"night": "20260131"})
    assert ended["state"] == "success"
    assert watch.status == "STOPPED"
    assert canary.deleted is not None


def test_the_hook_reports_a_cluster_and_searches_a_log(airflow_home: Path) -> None:
    with agent_with(Job(LOG, job_id="job-id")) as agent:
        ended, printed = run_example("rayagent_report_cluster", airflow_home, agent.url)
    assert ended == {"state": "success", "tasks": {"report_cluster": "success", "find_in_log": "success"}}
    assert "ERROR step 2 went wrong" in printed


def test_the_asyncio_hook_compares_jobs(airflow_home: Path) -> None:
    with agent_with(Job(job_id="job-id", details=TIMES)) as agent:
        ended, printed = run_example("rayagent_compare_jobs", airflow_home, agent.url)
    assert ended == {"state": "success", "tasks": {"compare_jobs": "success"}}
    assert "{'job-id': 12.5}" in printed


@pytest.mark.ray
def test_a_job_of_the_local_agent_is_submitted_and_followed(airflow_home: Path) -> None:
    with local_agent() as agent:
        ended, printed = run_example("rayagent_local_job", airflow_home, agent.url, token=agent.token)
    assert ended == {"state": "success", "tasks": {"submit_job": "success", "follow_job": "success"}}
    assert all(f"step {step} of 10" in printed for step in range(1, 11))
