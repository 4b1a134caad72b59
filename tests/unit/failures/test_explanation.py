"""Why a job did not succeed, in words for one who has only the task log."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.failures import explanation

MESSAGE = "Job entrypoint command failed with exit code 3, last available logs (truncated to 9 chars):\nit broke\n"
NO_FILE = f"{MESSAGE}python: can't open file '/tmp/ray/train.py': [Errno 2] No such file or directory\n"
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
    return explanation.explain({**FAILED, **details}, "j1", log_is_shown=log_is_shown, link=link).text


def test_all_that_is_known_of_a_failure_is_told_one_fact_a_line() -> None:
    assert explain(link="http://a/j1").split("\n") == [
        "The program failed: exit code 3. Job j1 ended as FAILED after 2.5 s.",
        "Details: error JOB_ENTRYPOINT_COMMAND_ERROR, exit code 3, node n1.",
        "Ray's message: Job entrypoint command failed with exit code 3",
        "Check the job's last lines: the program itself failed.",
        "Job page: http://a/j1",
    ]
    assert "it broke" in explain(log_is_shown=False)
    # What is not known is left out.
    assert explanation.explain({"status": "FAILED"}, "j1", log_is_shown=True).text.split("\n") == [
        "Job j1 ended as FAILED.",
        "Check the job's last lines.",
    ]
    long = explain(message="x" * 50_000)
    assert "characters truncated" in long
    assert len(long) < 5_000


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"driver_exit_code": 0}, "exit code 0"),
        *(({"driver_exit_code": code}, "lack of memory") for code in (-9, 137)),
        *(({"driver_exit_code": code}, "TERM") for code in (-15, 143)),
        *(({"driver_exit_code": code}, "SIGSEGV") for code in (-11, 139)),
        ({"driver_exit_code": 126}, "permissions"),
        ({"driver_exit_code": 127}, "no such command"),
        ({"driver_exit_code": 2}, "Check the job's last lines: the program itself failed."),
        ({"driver_exit_code": 2, "message": NO_FILE, "runtime_env": {}}, "so no files were uploaded."),
        (
            {"driver_exit_code": 2, "message": NO_FILE, "runtime_env": {"working_dir": "gcs://p.zip"}},
            "The working_dir has no such file",
        ),
        # An agent need not tell the environment.
        ({"driver_exit_code": 2, "message": NO_FILE}, "Check the job's last lines: the program itself failed."),
        ({"driver_exit_code": [2], "runtime_env": {}}, "Check the job's last lines: the program itself failed."),
        ({"status": "STOPPED"}, "who stopped the job"),
        ({"status": "MIGRATED"}, "no such status"),
    ],
)
def test_the_exit_code_and_the_status_are_explained(details: dict[str, Any], words: str) -> None:
    assert words in explain(**details)


def test_the_first_line_says_that_the_platform_failed() -> None:
    message = "Unexpected error occurred: 1 worker(s) were killed due to the node running low on memory. Memory on"
    text = explain(error_type="JOB_SUPERVISOR_ACTOR_UNKNOWN_FAILURE", driver_exit_code=None, message=message)
    assert text.startswith(
        "Platform failure: a node was low on memory, and Ray killed a worker process. Job j1 ended as"
    )
    assert text.endswith("Give the job more memory, or let it run fewer tasks at once.")
