"""Why a job did not succeed, in words for one who has only the task log."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.render import reasons

MESSAGE = "Job entrypoint command failed with exit code 3, last available logs (truncated to 9 chars):\nit broke\n"
FAILED: dict[str, Any] = {
    "status": "FAILED",
    "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR",
    "driver_exit_code": 3,
    "driver_node_id": "n1",
    "message": MESSAGE,
    "start_time": 1000,
    "end_time": 3500,
}


def explain(*, log_is_shown: bool = True, link: str = "", **details: Any) -> str:
    return reasons.explain({**FAILED, **details}, "j1", log_is_shown=log_is_shown, link=link)


def test_all_that_is_known_of_a_failure_is_told_one_fact_a_line() -> None:
    assert explain(link="http://a/j1").split("\n") == [
        "The program failed: exit code 3. Job j1 ended as FAILED after 2.5 s.",
        "Details: error JOB_ENTRYPOINT_COMMAND_ERROR, exit code 3, node n1.",
        "Ray's message: Job entrypoint command failed with exit code 3",
        "Check the job's last lines: the program itself failed.",
        "Job page: http://a/j1",
    ]


def test_the_last_lines_come_from_rays_message_where_the_log_is_not_shown() -> None:
    assert "it broke" in explain(log_is_shown=False)
    assert "it broke" not in explain()


def test_what_is_not_known_is_left_out() -> None:
    assert reasons.explain({"status": "FAILED"}, "j1", log_is_shown=True).split("\n") == [
        "Job j1 ended as FAILED.",
        "Check the job's last lines: the program itself failed.",
    ]


def test_an_exit_code_of_zero_is_told() -> None:
    assert "exit code 0" in explain(driver_exit_code=0)


@pytest.mark.parametrize("code", [-9, 137])
def test_a_program_that_was_killed_points_at_its_memory(code: int) -> None:
    assert "lack of memory" in explain(driver_exit_code=code)


@pytest.mark.parametrize(("code", "word"), [(143, "TERM"), (-15, "TERM"), (139, "SIGSEGV"), (-11, "SIGSEGV")])
def test_other_signals_are_named(code: int, word: str) -> None:
    assert word in explain(driver_exit_code=code)


def test_the_first_line_says_that_the_platform_failed() -> None:
    message = "Unexpected error occurred: 1 worker(s) were killed due to the node running low on memory. Memory on"
    text = explain(error_type="JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", driver_exit_code=None, message=message)
    assert text.startswith(
        "Platform failure: a node was low on memory, and Ray killed a worker process. Job j1 ended as"
    )
    assert text.endswith("Give the job more memory, or let it run fewer tasks at once.")


def test_a_stopped_job_and_a_status_that_ray_does_not_have_say_so() -> None:
    assert "who stopped the job" in explain(status="STOPPED")
    assert "no such status" in explain(status="MIGRATED")


def test_a_long_message_is_cut_visibly() -> None:
    text = explain(message="x" * 50_000)
    assert "characters truncated" in text
    assert len(text) < 5_000
