"""A look at what Ray has recorded: its requests, its bounds, and rows that a real Ray does not give on cue."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_rayagent.errors.service_errors import RayAgentConnectionError, RayAgentError
from airflow_provider_rayagent.failures import failure_look
from airflow_provider_rayagent.failures.causes import LAST_LINES, MAX_GROUPS, MAX_LAST_LINE, MAX_LAST_LINES
from airflow_provider_rayagent.failures.explanation import Explanation, explain
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.failure_look import MAX_FAILURES, MAX_REQUESTS, FailureLook
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import Call, Pause, finish, run_steps
from airflow_provider_rayagent.services.ray_service import RAY

NODE, OTHER_NODE = "a" * 56, "b" * 56
WORKER = "c" * 56
START, END = 1_000_000, 1_010_000
ENDED_BY_RAY = (
    "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"
    '  File "/jobs/train.py", line 9, in <module>\n    ray.get(f.remote())\n'
)
JOB: dict[str, Any] = {
    "status": "FAILED",
    "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR",
    "driver_exit_code": 1,
    "driver_node_id": OTHER_NODE,
    "job_id": "01000000",
    "start_time": START,
    "end_time": END,
    "message": f"{ENDED_BY_RAY}ray.exceptions.WorkerCrashedError: The worker died unexpectedly\n",
}
TASK: dict[str, Any] = {
    "task_id": "1" * 48,
    "attempt_number": 0,
    "type": "NORMAL_TASK",
    "state": "FAILED",
    "name": "f",
    "func_or_class_name": "f",
    "job_id": "01000000",
    "node_id": NODE,
    "worker_id": WORKER,
    "worker_pid": 812,
    "error_type": "WORKER_DIED",
    "error_message": "The worker died unexpectedly",
    "end_time_ms": END - 3_000,
    "task_log_info": None,
}
NODES = [
    {"node_id": NODE, "node_ip": "10.0.0.7", "state": "ALIVE"},
    {"node_id": OTHER_NODE, "node_ip": "10.0.0.8", "state": "ALIVE"},
]
ACTOR = {
    "actor_id": "2" * 32,
    "class_name": "Trainer",
    "state": "DEAD",
    "job_id": "01000000",
    "node_id": NODE,
    "pid": 99,
    "death_cause": {"actor_died_error_context": {"error_message": "The actor died because its node has died."}},
}
LOST_ACTOR = {
    **ACTOR,
    "death_cause": {"actor_died_error_context": {"error_message": "The actor died: its worker process has died."}},
}
CALL = {**TASK, "task_id": "3" * 48, "type": "ACTOR_TASK", "actor_id": "2" * 32, "error_type": "ACTOR_DIED"}


def ended_by(exception: str, text: str = "") -> dict[str, Any]:
    """Return the details of a job whose program was ended by an exception of Ray."""
    return {**JOB, "message": f"{ENDED_BY_RAY}ray.exceptions.{exception}: {text}\n"}


class Records:
    """A service's records, by the resource of the request."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {"nodes": NODES, "actors": [], "workers": [], "file": "", **answers}
        self.requests: list[str] = []
        self.paused = 0.0

    def look(self, job: dict[str, Any] = JOB, service: Any = RAY, now: float = END / 1000) -> FailureLook:
        look = FailureLook(service, job, now)
        finish(run_steps(look.steps(), self._answer))
        return look

    def explain(self, job: dict[str, Any] = JOB, **options: Any) -> Explanation:
        return explain(job, "j1", self.look(job, **options), log_is_shown=True)

    async def _answer(self, step: Call | Pause) -> Any:
        if isinstance(step, Pause):
            self.paused += step.seconds
            return 0.0
        self.requests.append(step.path)
        path = step.path.partition("?")[0].rstrip("/")
        is_of_task = "filter_keys=task_id" in step.path or path.startswith("tasks/")
        name = "attempts" if is_of_task and path != "tasks" else path.rpartition("/")[2]
        answer: Any = self.answers.get(name, self.answers["tasks"] if name == "attempts" else None)
        answer = answer() if callable(answer) else answer
        if isinstance(answer, RayAgentError):
            raise answer
        if name == "attempts" and service_is_agent(step):
            answer = answer[-1]
        # The rows of Ray's state API are given without what is around them.
        return step.convert(answer) if step.convert is not None and not step.path.startswith("api/v0") else answer


def service_is_agent(step: Call) -> bool:
    return not step.path.startswith("api/v0")


def told(**answers: Any) -> list[str]:
    """Return the lines about the records."""
    lines = Records(**answers).explain().text.split("\n")
    return [line.strip() for line in lines if line.startswith("  ")]


def tasks(count: int, **columns: Any) -> list[dict[str, Any]]:
    return [{**TASK, "task_id": f"{number:048x}", **columns} for number in range(count)]


def test_equal_failures_are_one_group_with_the_first_of_them() -> None:
    rows = [{**row, "end_time_ms": END - number} for number, row in enumerate(tasks(3))]
    assert told(tasks=rows) == [
        "3 tasks f failed, the first one: its process died, and Ray does not know why "
        "(00:16:49 UTC, node 10.0.0.7, pid 812)"
    ]


def test_at_the_limit_there_may_be_more() -> None:
    assert told(tasks=tasks(MAX_FAILURES))[0].startswith(f"at least {MAX_FAILURES} tasks f failed, the first one: ")


def test_most_requests_are_few_whatever_there_is() -> None:
    rows = [{**row, "func_or_class_name": f"f{number}"} for number, row in enumerate(tasks(MAX_FAILURES))]
    records = Records(tasks=rows, workers=[{"exit_type": "SYSTEM_ERROR", "exit_detail": "x", "pid": 1}], file="a\n")
    text = records.explain().text
    assert len(records.requests) <= MAX_REQUESTS
    assert text.count(" failed: ") == MAX_GROUPS
    assert f"Ray recorded {MAX_FAILURES - MAX_GROUPS} more kinds of failures." in text


def test_the_lines_of_many_processes_have_one_limit() -> None:
    rows = [{**row, "func_or_class_name": f"f{number}"} for number, row in enumerate(tasks(MAX_GROUPS))]
    text = Records(tasks=rows, file=f"{'x' * MAX_LAST_LINE}\n" * LAST_LINES).explain().text
    assert MAX_LAST_LINES - MAX_LAST_LINE < text.count("x" * MAX_LAST_LINE) * MAX_LAST_LINE <= MAX_LAST_LINES
    assert text.count(" failed: ") == MAX_GROUPS


def test_if_nothing_is_recorded_ray_is_asked_again_after_a_pause() -> None:
    records = Records(tasks=[])
    text = records.explain().text
    assert "Ray recorded no failed task, dead actor or lost node of this job's driver." in text
    assert records.paused == failure_look.AGAIN_SECONDS
    old = Records(tasks=[])
    old.look(now=END / 1000 + 3600)
    assert old.paused == 0.0


def test_a_record_that_comes_late_is_found() -> None:
    answers = iter([[], [TASK], [TASK]])
    assert told(tasks=lambda: next(answers))[0].startswith("1 task f failed: ")


@pytest.mark.parametrize(
    ("job_id", "words"),
    [
        (None, "did not connect to Ray"),
        ("", "did not connect to Ray"),
        *((odd, "names no") for odd in ("x", 7, "../1")),
    ],
)
def test_without_a_driver_ray_is_asked_for_nodes_only(job_id: object, words: str) -> None:
    records = Records(tasks=[TASK])
    assert words.replace("names no", "does not name its driver") in records.explain({**JOB, "job_id": job_id}).text
    assert [path.partition("?")[0] for path in records.requests] == ["api/v0/nodes"]


@pytest.mark.parametrize("resource", ["tasks", "actors", "nodes"])
def test_if_ray_cannot_say_the_explanation_stays_and_one_line_says_why(resource: str) -> None:
    records = Records(**{"tasks": [TASK], resource: RayAgentConnectionError("Nothing listens.")})
    explanation = records.explain()
    assert "What Ray recorded about this job could not be read: Nothing listens." in explanation.text
    assert explanation.kind is FailureKind.WORKER_LOST


@pytest.mark.parametrize("resource", ["workers", "file", "attempts"])
def test_an_addition_that_fails_leaves_the_rest(resource: str) -> None:
    assert told(**{"tasks": [TASK], resource: RayAgentConnectionError("Nothing listens.")})[0].startswith("1 task f")


def test_a_task_whose_later_attempt_succeeded_is_none_that_failed() -> None:
    later = {**TASK, "attempt_number": 1, "state": "FINISHED"}
    assert told(tasks=[TASK], attempts=[TASK, later]) == []
    failed = {**TASK, "attempt_number": 1}
    assert len(told(tasks=[TASK, failed], attempts=[TASK, failed])) == 1


def test_open_tasks_at_the_end_of_the_driver_did_not_fail() -> None:
    words = "Job finishes (01000000) as driver exits. Marking all non-terminal tasks as failed."
    assert told(tasks=[{**TASK, "error_message": words}]) == []
    assert told(tasks=[{**TASK, "error_type": "OWNER_DIED"}]) == []


def test_a_dead_actor_is_told_with_its_calls_and_not_they() -> None:
    assert told(tasks=[CALL], actors=[ACTOR]) == [
        "1 node was lost: 10.0.0.7 at 00:16:47 UTC (it did not answer; Ray still lists it as alive)",
        "1 actor Trainer died: its node was lost; 1 of its calls failed (00:16:47 UTC, node 10.0.0.7, pid 99)",
    ]


@pytest.mark.parametrize("words", ["its owner has died.", "all references to the actor were removed."])
def test_an_actor_that_ended_as_it_should_is_left_out(words: str) -> None:
    ended = {
        **ACTOR,
        "death_cause": {"actor_died_error_context": {"error_message": f"The actor is dead because {words}"}},
    }
    assert told(tasks=[], actors=[ended]) == []


def test_a_preempted_node_is_a_cause_of_its_own() -> None:
    preempted = {**NODES[0], "state": "DEAD", "state_message": "Preempted: spot", "end_time_ms": END - 1_000}
    records = Records(tasks=[{**TASK, "error_type": "NODE_DIED"}], nodes=[preempted, NODES[1]])
    explanation = records.explain(ended_by("NodeDiedError"))
    assert explanation.kind is FailureKind.PREEMPTED
    assert "1 node was preempted: 10.0.0.7 at 00:16:47 UTC (Preempted: spot)" in explanation.text


def test_nodes_with_the_same_address_are_told_apart() -> None:
    nodes = [{**node, "node_ip": "127.0.0.1"} for node in NODES]
    assert "node 127.0.0.1 [aaaaaaaa]" in told(tasks=[TASK], nodes=nodes)[0]


def test_a_node_that_was_idle_or_died_before_is_left_out() -> None:
    idle = {**NODES[1], "state": "DEAD", "state_message": "Expected termination: idle", "end_time_ms": END - 5_000}
    before = {**NODES[0], "state": "DEAD", "state_message": "Unexpected", "end_time_ms": START - 5_000}
    job = {**JOB, "driver_node_id": None}
    assert "What Ray recorded" not in Records(tasks=[], nodes=[idle, before]).explain(job).text


def test_that_the_node_of_a_process_does_not_answer_is_told() -> None:
    gone = RayAgentError(f"500: Agent for node id: {NODE} doesn't exist.")
    assert "does not know why; its node did not answer (" in told(tasks=[TASK], file=gone)[0]


def test_the_memory_of_the_node_is_told_of_a_process_that_died_without_a_record() -> None:
    usage = {"data": {"detail": {"now": 1_007.5, "mem": [2**31, 2**31 - 2**29, 25.0, 2**29]}}}
    of_task = "does not know why; memory of its node at 00:16:47 UTC: 0.5 of 2 GiB in use ("
    assert of_task in told(tasks=[TASK], **{NODE: usage})[0]
    assert of_task.replace(" (", "; ") in told(tasks=[CALL], actors=[LOST_ACTOR], **{NODE: usage})[0]
    assert "GiB" not in told(tasks=[TASK], file="*** SIGSEGV received at time=1 on cpu 0 ***", **{NODE: usage})[0]


@pytest.mark.parametrize("odd", [None, 7, [], [1, 2, 3], [0, 0, 0.0, 0], ["x"] * 4, [float("nan")] * 4, [10**400] * 4])
def test_a_memory_of_another_form_is_left_out(odd: Any) -> None:
    assert "GiB" not in told(tasks=[TASK], **{NODE: {"data": {"detail": {"now": 1_007.5, "mem": odd}}}})[0]
    usage = {"data": {"detail": {"now": odd, "mem": [2**31, 2**30, 50.0, 2**30]}}}
    assert ("GiB" in told(tasks=[TASK], **{NODE: usage})[0]) is (odd == 7)


def test_the_last_lines_end_at_a_crash() -> None:
    lines = [*(f"line {number}" for number in range(50)), "*** SIGSEGV received at time=1 on cpu 0 ***", "PC: @ 0x7f"]
    found = told(tasks=[TASK], file=":job_id:01000000\n" + "\n".join(lines))
    assert found[0].startswith("1 task f failed: its process crashed with SIGSEGV")
    assert found[2:] == lines[-2 - LAST_LINES + 1 : -1]


def test_an_exit_code_is_the_programs() -> None:
    detail = "Worker exits unexpectedly. Worker exits with an exit code 3."
    explanation = Records(tasks=[TASK], workers=[{"exit_type": "SYSTEM_ERROR", "exit_detail": detail}]).explain()
    assert explanation.kind is FailureKind.PROGRAM
    assert "its process ended with exit code 3" in explanation.text


def test_a_program_that_ends_by_its_own_exception_has_failed_itself() -> None:
    own = {**JOB, "message": f"{ENDED_BY_RAY}RuntimeError: mine\n"}
    explanation = Records(tasks=[TASK]).explain(own)
    assert explanation.kind is FailureKind.PROGRAM
    assert "1 task f failed: its process died, and Ray does not know why" in explanation.text


def test_an_agent_tells_of_tasks_and_nodes() -> None:
    others = [{**TASK, "job_id": "02000000"}, {**TASK, "state": "FINISHED"}]
    records = Records(tasks=[*others, TASK])
    text = records.explain(service=AGENT).text
    task = f"tasks/{TASK['task_id']}/"
    assert records.requests == ["nodes/", f"tasks/?job_id=01000000&state=FAILED&limit={MAX_FAILURES}", task]
    assert "1 task f failed: its process died, and Ray does not know why" in text


def test_foreign_text_is_shown_safely_and_without_secrets() -> None:
    secret = "hunter2-hunter2"
    hostile = f"::group::\x1b[2J\u202e\ud800{secret}\n::endgroup::RA-999: forged"
    rows = [{**TASK, "func_or_class_name": hostile, "error_type": "TASK_EXECUTION_EXCEPTION", "error_message": hostile}]
    look = Records(tasks=rows, file=f"{hostile}\n{'x' * 100_000}\n").look()
    explanation = explain(JOB, "j1", look, log_is_shown=True, redact=lambda text: text.replace(secret, "***"))
    shown = explanation.text + json.dumps(list(explanation.causes))
    assert secret not in shown
    assert "::group::" not in explanation.text
    assert "\x1b" not in shown
    assert "\nRA-999" not in explanation.text
    assert max(map(len, explanation.text.split("\n"))) < 2 * MAX_LAST_LINE
