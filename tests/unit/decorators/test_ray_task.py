"""A function of a DAG file as a Ray job: its arguments, what it returns and raises, in a worker and deferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_provider_rayagent.decorators.ray_task import ray_task
from airflow_provider_rayagent.exceptions import RayAgentInputError, RayAgentRunFailedError
from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.failures.job_message import kind_of_job
from tests.scripted import Job
from tests.unit.both_ways import both_ways
from tests.unit.supervisor import supervise
from tests.unit.support import make_context, task_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import DAG

    from tests.scripted import ScriptedAgent
    from tests.unit.both_ways import Run


def make_task(function: Callable[..., Any], *args: Any, call: dict[str, Any] | None = None, **options: Any) -> Any:
    """Return the operator of a decorated function, called with ``args`` and ``call``."""
    return ray_task(function, poll_interval=0.5, **options)(*args, **(call or {})).operator


run = both_ways(make_task)


def add(a: int, b: int = 2, *more: int, factor: int = 1, **named: Any) -> Any:
    print("adding")
    return {"sum": (a + b + sum(more)) * factor, "named": named}


def test_it_returns_what_the_function_returns(run: Run, ray: ScriptedAgent) -> None:
    with task_log() as log:
        assert run(function=add, call={"a": 1, "factor": 3, "x": [1, None]}) == {"sum": 9, "named": {"x": [1, None]}}
    assert log.lines_of("adding\n") == ["adding"]


def reads_trace() -> int:
    import os

    return len(os.environ["TRACEPARENT"])


def test_it_runs_on_a_cluster_without_opentelemetry_also_if_airflow_traces(run: Run, ray: ScriptedAgent) -> None:
    assert run(function=reads_trace, runtime_env={"env_vars": {"TRACEPARENT": f"00-{1:032x}-{2:016x}-01"}}) == 55


def fails(rows: list[int]) -> None:
    def check(row: int) -> None:
        raise ValueError(f"bad row {row}")

    for row in rows:
        check(row)


def test_an_exception_is_the_tasks_error(run: Run, ray: ScriptedAgent) -> None:
    first = fails.__code__.co_firstlineno
    with pytest.raises(RayAgentRunFailedError) as raised:
        run(function=fails, call={"rows": [7]})
    lines = str(raised.value).splitlines()
    assert lines[:3] == [
        "RA-101: ValueError: bad row 7",
        f"  test_ray_task.py, line {first + 5}, in fails",
        f"  test_ray_task.py, line {first + 2}, in check",
    ]


def is_killed() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_ends_without_an_outcome_fails_as_any_job_does(run: Run, ray: ScriptedAgent) -> None:
    with task_log() as log, pytest.raises(RayAgentRunFailedError, match="ended as FAILED"):
        run(function=is_killed)
    assert [message for message in log.messages if "result" in message] == []


def test_a_job_that_is_stopped_before_it_starts_is_started_again(ray: ScriptedAgent, monkeypatch: Any) -> None:
    """As an earlier try requested, while this one was deferred."""
    context = make_context()
    supervise(context["ti"], monkeypatch)
    operator = make_task(add, 1, deferrable=True)
    stopped = ray.jobs["stopped"] = Job("", "STOPPED", job_id="stopped")
    context["ti"].xcom_push("job_id", stopped.job_id)
    event = {"end": "job ended", "status": "STOPPED", "error": None}
    with task_log() as log:
        assert operator.execute_complete(context, event, found_pending=True) == {"sum": 3, "named": {}}
    assert any("is STOPPED now; starting a new job" in message for message in log.messages)


def skips() -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    raise AirflowSkipException("no data today")


def skips_in_a_ray_task() -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    class RayTaskError(AirflowSkipException):
        """As Ray raises what a task has raised."""

        cause = AirflowSkipException("no data today")

    raise RayTaskError("ray::task() (pid=7): many lines")


VALUES = {"STAGE": "train", "SEED": "12345", "WHAT": "outcome", "KIND": "ValueError", "MORE": "value"}
"""Variables of a job, which are masked in its log, with values that are words of results as well."""


def returns_values() -> dict[str, object]:
    print("of train with 12345")
    return {"path": "/data/train/model.pt", "seed": 12345, "train": ["value"]}


def test_masking_does_not_change_what_a_function_returns(run: Run, ray: ScriptedAgent) -> None:
    with task_log() as log:
        found = run(function=returns_values, runtime_env={"env_vars": VALUES}, multiple_outputs=False)
    assert found == {"path": "/data/train/model.pt", "seed": 12345, "train": ["value"]}
    assert log.lines_of("of *** with ***\n") == ["of *** with ***"]
    assert not any("/data/train" in message for message in log.messages)


def fails_on_data() -> None:
    raise ValueError("no /data/train of 12345")


def skips_data() -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    raise AirflowSkipException("no /data/train")


def test_masking_does_not_change_an_outcome_but_what_is_shown_of_it(run: Run, ray: ScriptedAgent) -> None:
    env = {"env_vars": VALUES}
    with pytest.raises(
        RayAgentRunFailedError, match=r"RA-101: \*\*\*: no /data/\*\*\* of \*\*\*\n  test_ray_task.py, line"
    ):
        run(function=fails_on_data, runtime_env=env)
    with pytest.raises(AirflowSkipException, match=r"no /data/\*\*\*$"):
        run(function=skips_data, runtime_env=env)


def lacks_a_package() -> None:
    import no_such_package  # type: ignore[import-not-found]  # noqa: F401


def lacks_a_name() -> None:
    defined_below_it()  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (
            lacks_a_package,
            r"No module named 'no_such_package'\. The cluster does not have it: name its package in requirements",
        ),
        (lacks_a_name, r"'defined_below_it' is not defined\. Only the function lacks_a_name is sent to the cluster"),
    ],
)
def test_what_the_cluster_does_not_have_is_said_in_one_sentence(
    function: Any, words: str, run: Run, ray: ScriptedAgent
) -> None:
    with pytest.raises(RayAgentRunFailedError, match=words):
        run(function=function)


def gives_up() -> None:
    from airflow.exceptions import AirflowFailException

    raise AirflowFailException("wrong schema")


@pytest.mark.parametrize("function", [skips, skips_in_a_ray_task])
def test_airflows_exceptions_mean_what_they_say(function: Any, run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(AirflowSkipException, match=r"^no data today$"):
        run(function=function)


def test_it_fails_without_a_retry(run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(AirflowFailException, match="AirflowFailException: wrong schema"):
        run(function=gives_up)


async def awaits(n: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return n + 1


def recurses(n: int, unit: int = 1) -> int:
    return unit if n <= 0 else n * recurses(n - 1)


def shadows(a: DAG, *, when: DAG | None = None) -> DAG:
    def inner(b: DAG) -> DAG:
        return b

    text = """
  kept
    as it is"""
    return [inner(a), when, text]  # type: ignore[return-value]


def exits() -> None:
    import sys

    sys.exit(0)


def returns_the_markers() -> list[str]:
    print("[outcome of another] {} [end of outcome]")
    return [" [end of outcome]", "[outcome of night] ", "\\", '"']


def closes_its_output() -> str:
    import sys

    sys.stdout.close()
    sys.stderr = None
    return "done"


@pytest.mark.parametrize(
    ("function", "call", "returned"),
    [
        (awaits, {"n": 1}, 2),
        (recurses, {"n": 4}, 24),
        (shadows, {"a": 1}, [1, None, "\n  kept\n    as it is"]),
        (exits, {}, None),
        (returns_the_markers, {}, [" [end of outcome]", "[outcome of night] ", "\\", '"']),
        (closes_its_output, {}, "done"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_functions_of_every_kind(function: Any, call: Any, returned: Any, run: Run, ray: ScriptedAgent) -> None:
    assert run(function=function, call=call) == returned


def raises_the_marker() -> None:
    raise ValueError("x [end of outcome] y")


def raises_what_has_no_text() -> None:
    class UnreadableError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    raise UnreadableError


def exits_with_an_empty_text() -> None:
    import sys

    sys.exit("")


def fails_without_streams() -> None:
    import sys

    sys.stderr.close()
    sys.stdout = None
    raise ValueError("told all the same")


def imports_from_airflow() -> None:
    from airflow.sdk import Variable

    print(Variable)


def imports_a_module_of_airflow() -> None:
    import airflow.models

    print(airflow.models)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (raises_the_marker, r"RA-101: ValueError: x \[end of outcome\] y\n"),
        (raises_what_has_no_text, r"RA-101: UnreadableError: <its message cannot be read: RuntimeError>\n"),
        (exits_with_an_empty_text, r"RA-101: SystemExit: the function called sys.exit\(''\)\n"),
        (fails_without_streams, "RA-101: ValueError: told all the same\n"),
        (imports_from_airflow, "The cluster does not have Airflow: a function can import AirflowException, Airflow"),
        (imports_a_module_of_airflow, "The cluster does not have Airflow: a function can import AirflowException"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_outcome_is_never_lost(function: Any, words: str, run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentRunFailedError, match=words):
        run(function=function)


def loses_a_worker() -> None:
    class WorkerCrashedError(Exception):
        """As Ray raises it for a task whose process was killed."""

    WorkerCrashedError.__module__, WorkerCrashedError.__qualname__ = "ray.exceptions", "WorkerCrashedError"
    raise WorkerCrashedError("The worker died unexpectedly while executing this task.")


def test_the_last_lines_of_the_log_tell_the_cause(run: Run, ray: ScriptedAgent) -> None:
    with pytest.raises(RayAgentRunFailedError):
        run(function=loses_a_worker)
    (job,) = ray.jobs.values()
    # As Ray makes its message (``dashboard/modules/job/job_supervisor.py``).
    last = "\n".join(str(job.text).splitlines()[-10:])
    message = (
        f"Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n{last}"
    )
    details = {
        "status": "FAILED",
        "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR",
        "driver_exit_code": 1,
        "message": message,
    }
    assert kind_of_job(details) is FailureKind.WORKER_LOST


def returns_outputs() -> dict[str, int]:
    return {"a": 1}


def test_a_task_that_does_not_wait_returns_the_jobs_id(ray: ScriptedAgent) -> None:
    context = make_context()
    task = make_task(returns_outputs, wait=False)
    assert task.execute(context) == context["ti"].xcoms["job_id"]
    # Airflow would push the items of a dictionary.
    assert not task.multiple_outputs


def test_a_variable_of_the_context_that_the_run_lacks_is_named(run: Run, ray: ScriptedAgent) -> None:
    def daily(ds: str) -> str:
        return ds

    with pytest.raises(
        RayAgentInputError, match="The arguments of daily do not fit: missing a required argument: 'ds'"
    ):
        run(function=daily)


def test_a_nested_function_and_airflows_context(run: Run, ray: ScriptedAgent) -> None:
    def nested(day: str, ds: str | None = None, *, run_id: str) -> str:
        return f"""{day}
{ds} {run_id}"""

    context = make_context(ds="2026-01-01", run_id="run-7", ti_extra=1)
    assert run(function=nested, call={"day": "Monday"}, context=context) == "Monday\n2026-01-01 run-7"
