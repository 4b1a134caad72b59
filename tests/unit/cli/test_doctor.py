"""``doctor``: a good set-up, and what is said of each broken one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.cli.doctor import CHECKS
from airflow_provider_rayagent.connection.config import UNENCRYPTED
from tests.scripted import Answer, Job, Refuse, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.unit.cli.findings import HEALTHY, TEXT, agent_with, examine, wrong
from tests.unit.support import TOKEN, remote_url

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Airflow, Examined
    from tests.unit.support import Connect


def test_a_good_agent(connect: Connect, airflow: Airflow) -> None:
    extra = {"tenant": "acme", "metrics_url": "https://grafana.example.com/?from={start}"}
    with agent_with() as agent:
        connect(agent, extra=extra)
        found = examine(airflow)
    assert {check: result for check, (result, _) in found.items()} == dict.fromkeys(CHECKS, "ok")
    assert found["connection"][1] == f"Connected to agent 2026.2 with Ray 2.60.0 at {agent.url}."
    assert found["links"][1] == "Jobs have links: Metrics page (metrics_url)."
    assert "Airflow 3" in found["versions"][1]


def test_a_good_dashboard_has_no_streams(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(Job(TEXT), token=TOKEN, service="ray") as server:
        connect(server, extra={"service": "ray"})
        found = examine(airflow)
    assert wrong(found) == {}
    assert {check for check, (result, _) in found.items() if result == "-"} == {"WebSocket", "SSE"}
    assert found["SSE"][1] == "Logs of this service are read by polling, not as a stream."
    assert found["connection"][1].startswith("Connected to Ray's own dashboard (2.60.0) at ")


def test_without_jobs_no_log_is_checked(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(Job(TEXT, type="DRIVER"), answers={"GET health/": [HEALTHY]}) as agent:
        connect(agent, password=None)
        found = examine(airflow)
    assert wrong(found) == {}
    assert found["job log"] == ("-", "The service has no job whose log can be read.")


def test_the_newest_job_that_runs_is_chosen(connect: Connect, airflow: Airflow) -> None:
    statuses = ("RUNNING", "RUNNING", "FAILED", "SUCCEEDED")
    jobs = [Job(TEXT, status, f"j{start}", started=start) for start, status in enumerate(statuses, start=1)]
    with agent_with(*jobs) as agent:
        connect(agent)
        assert examine(airflow)["job log"][1] == "The log of job j2 can be read."
        assert examine(airflow, "--job-id", "j4")["SSE"][1] == "The log of job j4 arrives as a stream."


def test_an_empty_log_is_no_error(connect: Connect, airflow: Airflow) -> None:
    with agent_with(Job(status="RUNNING")) as agent:
        connect(agent)
        assert wrong(examine(airflow)) == {}


# Broken set-ups


def test_a_link_that_will_be_missing_is_told(connect: Connect, airflow: Airflow) -> None:
    with agent_with() as agent:
        connect(
            agent, extra={"job_url": "https://ray.example.com/{job_id}", "logs_url": "https://logs.example.com/{job}"}
        )
        problems = wrong(examine(airflow))
    assert problems.keys() == {"links"}
    assert problems["links"].startswith("The connection's Logs page (logs_url) has {job} in it, ")


def test_a_token_that_others_can_read_is_a_warning(
    connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent_with() as agent:
        connect(remote_url(agent, monkeypatch))
        found = examine(airflow)
    assert wrong(found) == {}
    assert found["connection"][0] == "warning"
    assert found["connection"][1].endswith(UNENCRYPTED)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://agent.invalid", "Cannot resolve the host name in http://agent.invalid/"),
        (NO_AGENT, f"Nothing listens at {NO_AGENT}/: check Service URL (host) and port"),
    ],
)
def test_nothing_is_checked_after_a_connection_that_does_not_work(
    url: str, words: str, connect: Connect, airflow: Airflow
) -> None:
    connect(url)
    found = examine(airflow)
    assert list(found) == ["versions", "connection"]
    assert wrong(found)["connection"].startswith(words)


def test_an_agent_whose_ray_is_down(examined: Examined) -> None:
    found = examined(agent_with(health=Answer(200, {"status": "ok", "ray": {"status": "down"}})))
    assert list(wrong(found)) == ["connection"]
    assert "reports that Ray is down" in found["connection"][1]


def test_jobs_that_may_not_be_listed(connect: Connect, airflow: Airflow) -> None:
    with agent_with(jobs=Refuse(403)) as agent:
        connect(agent, extra={"tenant": "acme"})
        found = examine(airflow)
    refusal = "The agent rejected the token (403): check the Token (password) and the Tenant (tenant)."
    assert wrong(found) == {"jobs": refusal}
    assert list(found)[-1] == "jobs"


def test_an_invalid_connection_is_reported_like_by_other_commands(connect: Connect, airflow: Airflow) -> None:
    connect("", extra={})
    done = airflow("doctor")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("RA-208: The connection has no Service URL (host)")
