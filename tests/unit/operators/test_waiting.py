"""A retry policy lets a task wait and run again in the same try (Airflow 3.4): one job, and each of its lines once."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentError, RayAgentJobNotStartedError, RayAgentRunFailedError
from airflow_provider_rayagent.policies import retry
from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy
from airflow_provider_rayagent.position import task_position
from airflow_provider_rayagent.task_instance.resume_delay import seconds_to_resume
from tests.scripted import DEFAULT, Grow, Job, Refuse, SetStatus, Sleep, WaitFor
from tests.unit.both_ways import both_ways
from tests.unit.operators.started_jobs import ROOT, starting
from tests.unit.operators.submissions import ORIGIN, SUBMIT, make_operator
from tests.unit.support import RefusingStore, StateStore, TaskInstance, make_context, task_log

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.scripted import ScriptedAgent
    from tests.unit.both_ways import Run

retry_policy = pytest.importorskip("airflow.sdk.definitions.retry_policy", reason="Airflow 3.3")

NOW = datetime.now(tz=timezone.utc)

run = both_ways(make_operator)


@pytest.fixture(autouse=True)
def _reschedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Airflow 3.3 have the decision of Airflow 3.4."""
    if not hasattr(retry_policy.RetryDecision, "reschedule"):
        decision = SimpleNamespace(
            reschedule=lambda delay, **bounds: SimpleNamespace(
                action=SimpleNamespace(value="reschedule"), retry_delay=delay, **bounds
            ),
            retry=retry_policy.RetryDecision.retry,
            fail=retry_policy.RetryDecision.fail,
        )
        monkeypatch.setattr(retry, "RetryDecision", decision)


@pytest.fixture
def execute_again(run: Run) -> Callable[..., Any]:
    """Return what runs the task, each time in the same try, as Airflow does after a reschedule."""
    ti, store = TaskInstance(), StateStore()
    count = 0

    def execute_again(**options: Any) -> Any:
        nonlocal count
        # Airflow deletes the XComs when a task runs again.
        ti.xcoms.clear()
        context = make_context(ti, task_state_store=store, task_reschedule_count=count)
        ti.first_reschedule_date = datetime.now(tz=timezone.utc) if count else None
        count += 1
        return run(context=context, **{"retry_policy": RayAgentRetryPolicy(), **options})

    return execute_again


def decide(kind: str, first: datetime | None = None, **arguments: Any) -> Any:
    error = RayAgentError("wrong")
    error.failure_kind = kind
    context = make_context(TaskInstance(first_reschedule_date=first))
    return RayAgentRetryPolicy(**arguments).evaluate(error, 1, 0, context)


@pytest.mark.parametrize("kind", ["resources", "start_timeout", "unreachable"])
def test_what_the_task_waits_for_uses_no_retry_until_its_bound(kind: str) -> None:
    for first in (None, NOW - timedelta(hours=23)):
        decision = decide(kind, first, **{kind: 30})
        assert (decision.action.value, decision.retry_delay) == ("reschedule", timedelta(seconds=30))
        assert decision.reschedule_timeout > timedelta(days=1)
    assert decide(kind, NOW - timedelta(hours=25)).action.value == "retry"
    assert decide(kind, NOW - timedelta(hours=25), wait_at_most=timedelta(days=2)).action.value == "reschedule"
    assert decide(kind, wait_at_most=None).action.value == "retry"
    assert decide(kind, **{kind: None}).action.value == "fail"


@pytest.mark.parametrize("kind", ["node_died", "worker_lost", "out_of_memory", "runtime_env", "job_lost"])
def test_all_other_failures_use_a_retry(kind: str) -> None:
    assert decide(kind).action.value == "retry"


def test_a_task_never_runs_again_before_airflow_has_noticed_its_end() -> None:
    assert decide("unreachable", unreachable=0.1).retry_delay == timedelta(seconds=seconds_to_resume())


def test_a_job_that_is_pending_for_long_remains_and_is_followed_when_it_starts(
    execute_again: Callable[..., Any], ray: ScriptedAgent
) -> None:
    ray.answers[SUBMIT] = [starting(ray, first="PENDING", timeline=())]
    for _ in range(2):
        with pytest.raises(RayAgentJobNotStartedError) as caught:
            execute_again(start_timeout=0.5)
        assert caught.value.is_waited_for
    job = ray.jobs[ROOT]
    job.timeline = [Sleep(0.3), SetStatus("RUNNING"), Grow("a\nb\n"), Sleep(0.3), SetStatus("SUCCEEDED")]
    with task_log() as log:
        assert execute_again(start_timeout=60)["status"] == "SUCCEEDED"
    assert log.lines_of("a\nb\n") == ["a", "b"]
    assert len(ray.of(SUBMIT)) == 1
    assert job.stop_calls == 0


def test_after_the_bound_a_job_that_is_still_pending_is_stopped(run: Run, ray: ScriptedAgent) -> None:
    ray.answers[SUBMIT] = [starting(ray, first="PENDING", timeline=())]
    context = make_context(TaskInstance(first_reschedule_date=NOW - timedelta(days=2)))
    policy = RayAgentRetryPolicy()
    with pytest.raises(RayAgentJobNotStartedError) as caught:
        run(context=context, start_timeout=0.5, retry_policy=policy)
    assert ray.jobs[ROOT].stop_calls == 1
    assert caught.value.is_waited_for is False
    # Had the bound not been reached yet by the clock of the policy, the job would be gone all the same.
    context["ti"].first_reschedule_date = None
    assert policy.evaluate(caught.value, 1, 0, context).action.value == "retry"


def test_lines_that_were_forwarded_before_the_task_waited_are_not_forwarded_again(
    way: str, execute_again: Callable[..., Any], ray: ScriptedAgent
) -> None:
    with task_log() as log:

        def shown(line: str) -> WaitFor:
            return WaitFor(lambda: any(line in message.split("\n") for message in log.messages))

        def goes_away() -> bool:
            ray.answers[f"GET jobs/{ROOT}/"] = [Refuse(503)]
            return True

        job = Job("a\nb\n", "RUNNING", ROOT, details={"metadata": ORIGIN})
        ray.jobs[ROOT] = job
        job.timeline = [shown("b"), WaitFor(goes_away)]
        with pytest.raises(RayAgentError) as caught:
            execute_again(agent_unreachable_timeout=0.5)
        assert RayAgentRetryPolicy().evaluate(caught.value, 1, 0, make_context()).action.value == "reschedule"
        ray.answers[f"GET jobs/{ROOT}/"] = [DEFAULT]
        job.grow("c\n")
        job.timeline, job.playing = [shown("c"), SetStatus("SUCCEEDED")], None
        assert execute_again()["status"] == "SUCCEEDED"
    assert log.lines_of("a\nb\nc\n") == ["a", "b", "c"]
    # Another trigger would delete the log of the first one.
    in_worker = any("this worker follows the job" in message for message in log.messages)
    assert in_worker == (way == "deferred")


@pytest.mark.parametrize("printed", ["", "__SYNAPSE_RESULT_START__2__SYNAPSE_RESULT_END__\n"])
def test_the_next_job_of_a_task_takes_neither_the_position_nor_the_result_of_the_one_before(
    printed: str, execute_again: Callable[..., Any], ray: ScriptedAgent
) -> None:
    text = f"epoch 1\n{printed}"
    ray.answers[SUBMIT] = [starting(ray, status="FAILED"), starting(ray, text=text)]
    with pytest.raises(RayAgentRunFailedError):
        execute_again(read_result=True)
    with task_log() as log:
        details = execute_again(read_result=True)
    assert log.lines_of(text) == ["epoch 1"]
    assert details["result"] == (2 if printed else None)


def test_a_position_that_airflow_does_not_store_does_not_decide_the_outcome(
    run: Run, ray: ScriptedAgent, caplog: pytest.LogCaptureFixture
) -> None:
    context = make_context(task_state_store=RefusingStore(task_position.KEY))
    assert run(context=context, retry_policy=RayAgentRetryPolicy())["status"] == "SUCCEEDED"
    assert f"RA-307: Failed to save the position in the log of job {ROOT}" in caplog.text
