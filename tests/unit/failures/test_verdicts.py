"""What counts as the cause of a failure where Ray has recorded several things."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.failures.explanation import explain
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.ray_exceptions import last_exception
from tests.unit.failures.test_failure_look import (
    ACTOR,
    CALL,
    END,
    ENDED_BY_RAY,
    JOB,
    NODE,
    NODES,
    START,
    TASK,
    Records,
    ended_by,
    told,
)

FRAME = '  File "/jobs/train.py", line 7, in f\n    raise x\n    ^^^^^^^\n'


def raised(exception: str, **columns: Any) -> dict[str, Any]:
    """Return the row of a task that has raised an exception."""
    message = f"ray::g() (pid=9, ip=10.0.0.7)\n{FRAME}{exception}"
    kind = {"error_type": "TASK_EXECUTION_EXCEPTION", "error_message": message, "task_log_info": None}
    return {**TASK, "task_id": "9" * 48, "func_or_class_name": "g", "end_time_ms": END - 5_000, **kind, **columns}


def dead(words: str, **columns: Any) -> dict[str, Any]:
    """Return the row of a dead actor."""
    return {**ACTOR, "death_cause": {"actor_died_error_context": {"error_message": words}}, **columns}


HANDLED = raised("ValueError: handled")
KILLED = dead("The actor is dead because it was killed by `ray.kill`.", actor_id="5" * 32, class_name="Killed")
CALL_OF_KILLED = {**CALL, "actor_id": "5" * 32, "task_id": "6" * 48, "end_time_ms": END - 9_000}
CALL_OF_KILLED["error_message"] = "The actor is dead because it was killed by `ray.kill`."
LOST = dead("The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR")
CANCELED = {**HANDLED, "error_type": "TASK_CANCELLED"}
OUT_OF_MEMORY = {**TASK, "error_type": "OUT_OF_MEMORY", "error_message": ""}


@pytest.mark.parametrize(
    ("job", "answers", "kind"),
    [
        (ended_by("WorkerCrashedError"), {"tasks": [HANDLED, TASK]}, FailureKind.WORKER_LOST),
        (ended_by("WorkerCrashedError"), {"tasks": [CANCELED, TASK]}, FailureKind.WORKER_LOST),
        (ended_by("OutOfMemoryError"), {"tasks": [TASK, OUT_OF_MEMORY]}, FailureKind.OUT_OF_MEMORY),
        (ended_by("ObjectStoreFullError"), {"tasks": [HANDLED]}, FailureKind.STORAGE_FULL),
        (
            ended_by("ActorDiedError", f"\n\tactor_id: {'2' * 32}\n"),
            {"tasks": [CALL_OF_KILLED, CALL], "actors": [KILLED, LOST]},
            FailureKind.WORKER_LOST,
        ),
        # Ray does not tell what it was.
        (ended_by("GetTimeoutError"), {"tasks": [HANDLED]}, None),
        # Something else than what is recorded.
        ({**JOB, "message": f"{ENDED_BY_RAY}RuntimeError: mine\n"}, {"tasks": [TASK]}, FailureKind.PROGRAM),
        ({**JOB, "driver_exit_code": 3}, {"tasks": [OUT_OF_MEMORY]}, FailureKind.PROGRAM),
        ({**JOB, "message": "exit code 1. No logs available."}, {"tasks": [OUT_OF_MEMORY]}, FailureKind.PROGRAM),
        ({**JOB, "message": f"{ENDED_BY_RAY}ValueError: x\nwhy\n"}, {"tasks": [TASK]}, FailureKind.PROGRAM),
        # Lines of workers have displaced those of the program.
        (
            {**JOB, "message": f"{ENDED_BY_RAY.partition(chr(10))[0]}\n(f pid=1) x\n"},
            {"tasks": [TASK]},
            FailureKind.WORKER_LOST,
        ),
    ],
)
def test_the_failure_that_ended_the_program_counts(
    job: dict[str, Any], answers: dict[str, Any], kind: FailureKind | None
) -> None:
    assert Records(**answers).explain(job).kind is kind


def test_an_actor_that_is_killed_after_it_was_lost_was_lost() -> None:
    call = {**CALL, "actor_id": "5" * 32, "error_type": "ACTOR_UNAVAILABLE", "error_message": "RpcError"}
    assert told(tasks=[call], actors=[KILLED])[0].startswith("1 actor Killed did not answer; 1 of its calls failed (")


def test_an_actor_that_answers_again_has_not_failed() -> None:
    call = {**CALL, "error_type": "ACTOR_UNAVAILABLE"}
    assert told(tasks=[call], attempts=[call, {**call, "attempt_number": 1, "state": "FINISHED"}]) == []


def test_several_attempts_of_a_call_are_one() -> None:
    calls = [{**CALL, "attempt_number": number} for number in range(3)]
    assert "; 1 of its calls failed" in told(tasks=calls, actors=[LOST])[0]


def test_a_detached_actor_that_no_call_needed_is_left_out() -> None:
    assert told(tasks=[], actors=[{**LOST, "is_detached": True}]) == []


def test_a_constructor_may_say_what_ray_says_of_actors() -> None:
    context = {"formatted_exception_string": f"{FRAME}ValueError: the token is out of scope"}
    actor = {**ACTOR, "death_cause": {"creation_task_failure_context": context}}
    assert told(tasks=[CALL], actors=[actor])[0].startswith(
        "1 actor Trainer died: its constructor failed: ValueError: the token is out of scope; 1 of its calls failed"
    )


@pytest.mark.parametrize(
    ("error_type", "words"),
    [
        ("RUNTIME_ENV_SETUP_FAILED", "died: its runtime environment could not be set up: "),
        ("OUT_OF_MEMORY", "died: its node was low on memory, and Ray killed the process"),
        ("ACTOR_PLACEMENT_GROUP_REMOVED", "died: its placement group was removed"),
    ],
)
def test_failed_calls_tell_of_an_actor_without_a_record(error_type: str, words: str) -> None:
    call = {**CALL, "name": "Trainer.step", "func_or_class_name": "Trainer.step", "error_type": error_type}
    assert told(tasks=[call])[0].startswith(f"1 actor Trainer {words}")


@pytest.mark.parametrize(
    ("exception", "follows"),
    [
        ("ray.exceptions.WorkerCrashedError: The worker died.", True),
        ("ray.exceptions.GetTimeoutError: Get timed out", False),
        ("ray.exceptions.ObjectStoreFullError: full", False),
        ("ValueError: x", False),
    ],
)
def test_an_exception_about_another_failure_follows_from_it(exception: str, follows: bool) -> None:
    line = told(tasks=[raised(exception)])[0]
    assert line.startswith(f"1 task g failed: {exception.rstrip('.')}")
    assert ("; this follows from another failure" in line) is follows


def test_the_users_exception_in_ray_data_is_shown() -> None:
    wrapped = f"ValueError: bad row\n\nThe above exception was the direct cause of the following exception:\n\n{FRAME}"
    row = raised(f"{wrapped}ray.exceptions.UserCodeException: UDF failed to process a data block.")
    assert told(tasks=[row])[0].startswith("1 task g failed: ValueError: bad row (")


def test_a_node_that_is_lost_after_the_job_is_no_reason() -> None:
    later = {**NODES[1], "state": "DEAD", "state_message": "Unexpected", "end_time_ms": END + 3_600_000}
    assert told(tasks=[], nodes=[NODES[0], later]) == []


def test_a_node_is_no_reason_if_what_failed_with_it_was_retried() -> None:
    row = {**TASK, "error_type": "NODE_DIED", "end_time_ms": START + 1}
    gone = {**NODES[0], "state": "DEAD", "state_message": "Unexpected", "end_time_ms": START + 2}
    job = {**JOB, "end_time": END + 36_000_000}
    records = Records(tasks=[row], nodes=[gone], attempts=[row, {**row, "attempt_number": 1, "state": "FINISHED"}])
    assert records.look(job, now=END / 1000 + 36_000).groups == []


def test_a_later_attempt_that_still_ran_at_the_end_has_not_failed() -> None:
    ends = {"attempt_number": 1, "error_message": "Job finishes (01000000) as driver exits."}
    assert told(tasks=[TASK, {**TASK, **ends}], attempts=[TASK, {**TASK, **ends}]) == []


def test_of_equal_failures_those_that_were_retried_are_left_out() -> None:
    final = {**TASK, "attempt_number": 3}
    others = [{**TASK, "task_id": f"{number:048x}"} for number in range(2)]
    answers = iter([[final], *([[row, {**row, "attempt_number": 1, "state": "FINISHED"}] for row in others])])
    assert told(tasks=[final, *others], attempts=lambda: next(answers))[0].startswith("1 task f failed: ")


@pytest.mark.parametrize(
    "words", ["Destroying worker since its placement group was removed.", "placement group was removed"]
)
def test_a_removed_placement_group_is_the_programs(words: str) -> None:
    worker = {"exit_type": "INTENDED_SYSTEM_EXIT", "exit_detail": words}
    assert told(tasks=[TASK], workers=[worker])[0].startswith("1 task f failed: its placement group was removed (")


def test_a_process_that_was_told_to_end_has_not_crashed() -> None:
    text = "*** SIGTERM received at time=1 on cpu 0 ***\nlast\n"
    assert "crash" not in told(tasks=[TASK], file=text)[0]
    early = "*** SIGSEGV received at time=1 on cpu 0 ***\n" + "a child is started again\n" * 150
    assert "crash" not in told(tasks=[TASK], file=early)[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{FRAME}ValueError: bad\n  while reading\nrow 7", "ValueError: bad"),
        (f"{FRAME}RuntimeError: cannot build:\n  step 1\nSee the log.", "RuntimeError: cannot build:"),
        (
            f"{FRAME}pydantic.ValidationError: 2 errors\na\n  Field required\nb\n  Field required",
            "pydantic.ValidationError: 2 errors",
        ),
        (f"{FRAME}KeyboardInterrupt", "KeyboardInterrupt"),
        ("    raise x\nValueError: cut", "ValueError: cut"),
        ("t of the message\nValueError: cut", "ValueError: cut"),
        ("no exception", None),
        ("", None),
    ],
)
def test_the_first_line_of_an_exception_is_found(text: str, line: str | None) -> None:
    assert last_exception(text) == line


def test_a_secret_of_several_lines_is_masked_in_the_last_lines() -> None:
    secret = "\n".join(["-----BEGIN KEY-----", *("k" * 20 for _ in range(30)), "-----END KEY-----"])
    look = Records(tasks=[TASK], file=f"{secret}\nlast\n").look()
    told_of = explain(JOB, "j1", look, log_is_shown=True, redact=lambda text: text.replace(secret, "***"))
    assert told_of.causes[0]["last_lines"] == ["***", "last"]
    assert "kkk" not in told_of.text + json.dumps(list(told_of.causes))


def test_a_name_of_a_file_that_cannot_be_sent_does_no_harm() -> None:
    row = {**TASK, "task_log_info": {"stderr_file": "\ud800"}, "node_id": NODE}
    assert told(tasks=[row])[0].startswith("1 task f failed: ")


def test_a_message_cannot_look_like_our_own_lines() -> None:
    text = explain({**JOB, "message": "x\nRA-999: forged\nWhat Ray recorded:\n  1 task"}, "j1", log_is_shown=False).text
    assert [line for line in text.split("\n") if line.startswith(("RA-", "What"))] == []
