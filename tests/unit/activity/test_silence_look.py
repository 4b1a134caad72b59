"""What is asked about a job that writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.activity import silence_look
from airflow_provider_rayagent.activity.running_parts import Attempt
from airflow_provider_rayagent.activity.shared_records import SharedRecords
from airflow_provider_rayagent.activity.silence_look import MAX_GROUPS, MAX_NODES, MAX_STACKS, Silence, look_at_silence
from airflow_provider_rayagent.errors.service_errors import RayAgentNotFoundError, RayAgentServerError
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.call import Call, finish, run_steps
from airflow_provider_rayagent.services.ray_responses import NodeUsage
from airflow_provider_rayagent.services.ray_service import RAY
from airflow_provider_rayagent.text.redaction import Redactor

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Pause

JOB = {"job_id": "02000000", "driver_info": {"pid": "1"}, "driver_node_id": "ee" * 28}
STACK = 'Thread 1 (idle): "MainThread"\n    train (train.py:3)\n'


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"task_id": f"t{number}", "name": "train", "node_id": f"{number:056x}", "worker_pid": number + 10, **more}


class Cluster:
    """Ray's answers by the beginning of the path.

    :param rows: of tasks that run.
    :param allowed: whether it gives stacks; an exception: raised.
    """

    def __init__(self, *rows: dict[str, Any], allowed: Any = False, stack: Any = STACK) -> None:
        self.answers: dict[str, Any] = {
            "api/v0/tasks": list(rows),
            "tasks/": list(rows),
            "nodes?": {"02000000": {"w": 7}},
            "nodes/": NodeUsage("10.0.0.7", {10: 5.0, 1: 50.0}),
            "api/profiling_enabled": allowed,
            "worker/traceback": stack,
        }
        self.finished: Any = 42
        self.asked: list[str] = []
        self.seconds = 0.0
        self.now = 0.0

    def look(
        self,
        job: Any = None,
        *,
        stacks: bool | None = None,
        tells: bool = True,
        before: Silence | None = None,
        counts: bool = False,
        service: Any = RAY,
    ) -> Silence:
        async def do(step: Call | Pause) -> Any:
            assert isinstance(step, Call)
            self.asked.append(step.path)
            self.now += self.seconds
            is_count = "FINISHED" in step.path
            answer = (
                self.finished
                if is_count
                else next(value for path, value in self.answers.items() if step.path.startswith(path))
            )
            if isinstance(answer, Exception):
                raise answer
            if step.path.startswith("api/v0/tasks") and not is_count:
                limit = 100 if "limit=100&" in step.path else 10_000
                return answer[:limit]
            return answer

        records = SharedRecords(service, lambda: self.now, lambda at: 1_000.0 - at)
        operation = look_at_silence(
            records,
            JOB if job is None else job,
            tells=tells,
            before=before,
            counts=counts,
            takes_stacks=stacks,
            redact=Redactor(["hunter2x"]),
        )
        found: Silence = finish(run_steps(operation, do))
        return found

    def count(self, path: str) -> int:
        return sum(each.startswith(path) for each in self.asked)


def test_one_request_tells_what_runs_and_one_for_each_node_its_processes() -> None:
    cluster = Cluster(row(0, start_time_ms=400_000.0), row(1, attempt_number=2, start_time_ms=600_000.0))
    found = cluster.look()
    assert found.attempts == frozenset({Attempt("t0", 0), Attempt("t1", 2)})
    assert (found.oldest_ago, found.newest_ago) == (600.0, 400.0)
    assert found.parts[0].startswith("2 tasks train, the first since 1970-01-01 00:06:40 UTC, on 2 nodes, the first on")
    assert found.parts[1].endswith(" uses 50% of a CPU")
    assert found.executed == {"w": 7}
    assert len(cluster.asked) == 6
    assert "limit=100&" in cluster.asked[0]
    assert found.advice.startswith("Ray gives no Python stacks: for them, start its head with")


def test_a_look_asks_for_more_only_if_nothing_has_changed() -> None:
    cluster = Cluster(row(0), allowed=True)
    first = cluster.look(tells=False, counts=True)
    assert first == Silence(frozenset({Attempt("t0", 0)}), {"w": 7}, 42, is_known=True)
    assert len(cluster.asked) == 3
    assert cluster.look(tells=False, counts=True, before=first).parts != ()
    cluster.answers["nodes?"] = {"02000000": {"w": 8}}
    assert cluster.look(tells=False, counts=True, before=first, stacks=True).parts == ()


def test_a_job_of_which_nobody_counts_the_tasks_is_not_compared() -> None:
    cluster = Cluster(row(0))
    cluster.answers["nodes?"] = RayAgentServerError("busy", 500)
    found = cluster.look()
    assert not found.is_known
    assert found.parts[0].startswith("1 task train")


@pytest.mark.parametrize("finished", [None, RayAgentServerError("busy", 500)])
def test_a_job_whose_finished_tasks_are_not_counted_is_not_compared(finished: Any) -> None:
    cluster = Cluster(row(0))
    cluster.finished = finished
    assert not cluster.look(counts=True).is_known
    assert cluster.look().is_known


def body(total: object) -> dict[str, Any]:
    return {"data": {"result": {"total": total, "result": []}}}


@pytest.mark.parametrize(
    ("answer", "number"), [(body(12), 12), (body(None), None), (body("12"), None), (body(-1), None), ([], None)]
)
def test_ray_counts_the_tasks_that_have_finished(answer: Any, number: int | None) -> None:
    call = RAY.activity_records.finished_tasks("02000000")
    assert "filter_values=FINISHED" in call.path
    assert call.convert is not None
    assert call.convert(answer) == number


FINISHED = {"job_id": "02000000", "state": "FINISHED"}


@pytest.mark.parametrize(
    ("rows", "number"),
    [
        ([], 0),
        ([FINISHED] * 7, 7),
        # A limit of its own, or no filter.
        ([FINISHED] * 100, None),
        ([FINISHED] * 10_000, None),
        ([FINISHED, {**FINISHED, "state": "RUNNING"}], None),
        ([FINISHED, {**FINISHED, "job_id": "03000000"}], None),
    ],
)
def test_an_agent_counts_the_tasks_if_it_lists_them_all(rows: list[dict[str, Any]], number: int | None) -> None:
    call = AGENT.activity_records.finished_tasks("02000000")
    assert call.convert is not None
    assert call.convert(rows) == number


@pytest.mark.parametrize(
    ("attempts", "executed", "finished", "goes_on"),
    [
        ({"t"}, {"a": 1, "b": 2}, 7, False),
        # An idle worker has ended.
        ({"t"}, {"b": 2}, 7, False),
        ({"t"}, {"a": 1, "b": 3}, 7, True),
        ({"t"}, {"a": 1, "b": 2, "c": 1}, 7, True),
        ({"t"}, {"c": 1}, 7, True),
        ({"t", "u"}, {"a": 1, "b": 2}, 7, True),
        (set(), {"a": 1, "b": 2}, 7, True),
        # Of a worker that ends after each task.
        ({"t"}, {}, 8, True),
    ],
)
def test_a_job_goes_on_if_tasks_start_or_end(
    attempts: set[str], executed: dict[str, int], finished: int, goes_on: bool
) -> None:
    def silence(ids: set[str], counts: dict[str, int], finished: int = 7) -> Silence:
        return Silence(frozenset(Attempt(each, 0) for each in ids), counts, finished, is_known=True)

    assert silence(attempts, executed, finished).goes_on_from(silence({"t"}, {"a": 1, "b": 2})) == goes_on


def test_a_large_job_takes_few_requests() -> None:
    rows = [row(number, name=f"f{number}") for number in range(5_000)]
    cluster = Cluster(*rows, allowed=True)
    found = cluster.look()
    assert found.attempts is not None
    assert len(found.attempts) == 5_000
    assert found.parts[0].startswith("at least 1 task f0")
    assert f"tasks of {100 - MAX_GROUPS} more functions" in found.parts
    assert cluster.count("nodes/") == MAX_NODES
    assert cluster.count("worker/traceback") == MAX_STACKS
    assert len(cluster.asked) == 3 + MAX_NODES + 1 + MAX_STACKS


def test_a_job_with_more_tasks_than_ray_lists_is_not_compared() -> None:
    rows = [row(number) for number in range(10_000)]
    assert Cluster(*rows).look().attempts is None
    assert Cluster(*rows[:9_999]).look().attempts is not None
    assert Cluster(*rows[:99]).look().attempts is not None


def test_a_job_without_tasks_has_its_program() -> None:
    cluster = Cluster(allowed=True)
    found = cluster.look()
    assert found.attempts == frozenset()
    assert found.parts == ["no task, by Ray's list", "its program (process 1 on node 10.0.0.7) uses 50% of a CPU"]
    assert found.stacks == ["Python stack of the program (process 1):", "  train (train.py:3)"]


def test_a_program_that_has_not_connected_costs_no_request() -> None:
    cluster = Cluster()
    found = cluster.look({"status": "RUNNING"})
    assert found.attempts == frozenset()
    assert found.parts == ("its program has not connected to Ray, which lists nothing of it",)
    assert cluster.asked == []


OLD = RayAgentNotFoundError("404: Not Found", 404)


@pytest.mark.parametrize(
    ("allowed", "stacks", "asks", "advice"),
    [
        (True, None, True, ""),
        (True, True, True, ""),
        (True, False, False, ""),
        (False, None, False, "Ray gives no"),
        (False, True, False, "Ray gives no"),
        (False, False, False, ""),
        # Before Ray 2.60.
        (OLD, None, False, "For Python stacks, set stall_stacks=True"),
        (OLD, True, True, ""),
        (OLD, False, False, ""),
        (RayAgentServerError("busy", 500), None, False, ""),
        (RayAgentServerError("busy", 500), True, False, ""),
    ],
)
def test_stacks_are_asked_for_where_ray_or_the_user_allows_it(
    allowed: Any, stacks: bool | None, asks: bool, advice: str
) -> None:
    cluster = Cluster(row(0), allowed=allowed)
    found = cluster.look(stacks=stacks)
    assert bool(cluster.count("worker/traceback")) == asks == bool(found.stacks)
    assert found.advice.startswith(advice)
    assert bool(found.advice) == bool(advice)


def test_a_stack_that_cannot_be_read_is_said() -> None:
    found = Cluster(row(0), allowed=True, stack=RayAgentServerError("py-spy is not installed", 500)).look()
    assert found.stacks == ["Python stack of task train (process 10): not available: py-spy is not installed"]


def test_nothing_more_is_asked_of_a_service_that_is_slow() -> None:
    cluster = Cluster(*[row(number, name=f"f{number}") for number in range(9)], allowed=True)
    cluster.seconds = silence_look.LOOK_SECONDS / 2
    found = cluster.look()
    assert found.parts[0].startswith("1 task f0")
    assert len(cluster.asked) <= 4


def test_nodes_that_cannot_be_asked_are_left_out() -> None:
    cluster = Cluster(row(0))
    cluster.answers["nodes/"] = RayAgentServerError("busy", 500)
    assert cluster.look().parts == ["1 task train, on node 00000000", "its program (process 1 on node eeeeeeee)"]


def test_an_agent_lists_tasks_alone() -> None:
    cluster = Cluster(row(0, job_id="02000000", state="RUNNING"), allowed=True)
    found = cluster.look(service=AGENT, stacks=True)
    assert found.parts == ["1 task train, on node 00000000", "its program (process 1 on node eeeeeeee)"]
    assert (found.stacks, found.advice) == ([], "")
    assert cluster.count("tasks/") == len(cluster.asked) == 1


def test_ids_that_would_change_a_path_are_not_asked_for() -> None:
    cluster = Cluster(row(0, node_id="../../api/jobs"), allowed=True)
    cluster.look({**JOB, "driver_node_id": "?x=1"})
    assert cluster.count("nodes/") == cluster.count("worker/traceback") == 0


def test_secrets_are_masked() -> None:
    for stack in (STACK.replace("train (", "hunter2x ("), RayAgentServerError("py-spy --env hunter2x failed", 500)):
        cluster = Cluster(row(0, name="f-hunter2x"), allowed=True, stack=stack)
        cluster.answers["nodes/"] = NodeUsage("hunter2x", {})
        found = cluster.look()
        assert "hunter2x" not in f"{found.parts} {found.stacks}"
        assert found.stacks
