"""The requests of the agent's API."""

from __future__ import annotations

from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.steps import finish, run_steps


async def unasked(step: object) -> None:
    raise AssertionError(step)


def test_every_path_ends_with_a_slash() -> None:
    calls = [
        AGENT.list_jobs(),
        AGENT.get_job(JobId("a")),
        finish(run_steps(AGENT.locate_log(JobId("a")), unasked)),
        *(AGENT.streams.open(JobId("a"), source) for source in AGENT.streams.sources),
        AGENT.stop_job(JobId("a")),
        AGENT.list_nodes(),
        AGENT.get_node("a"),
        AGENT.list_tasks(),
        AGENT.get_task("a"),
        AGENT.list_serve_applications(),
        AGENT.get_serve_application("a"),
        AGENT.delete_serve_application("a"),
        AGENT.get_gpu_status(),
        AGENT.get_gatekeeping_policy(),
        AGENT.health_check(),
    ]
    assert all(call.path.endswith("/") and not call.path.startswith("/") for call in calls)
    assert [call for call in calls if not call.idempotent] == [AGENT.stop_job(JobId("a"))]
