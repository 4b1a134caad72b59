"""How the sensor for a Serve application leaves its worker, deferred or rescheduled, and goes on."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import (
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferralError,
    TaskDeferred,
)

from airflow_provider_rayagent.exceptions import (
    RayAgentAuthenticationError,
    RayAgentResponseError,
    RayAgentServeApplicationFailedError,
    RayAgentServeApplicationTimeoutError,
)
from airflow_provider_rayagent.task_instance import resuming
from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger
from airflow_provider_rayagent.triggers.outcome import TIMEOUT_MARGIN
from tests.scripted import Application, Refuse, ScriptedAgent
from tests.stack.watch import PATIENCE
from tests.unit.sensors.applications import GET, make_sensor, said
from tests.unit.support import TaskInstance, make_context, named, task_log

if TYPE_CHECKING:
    from tests.scripted import Step
    from tests.unit.support import Connect

FAIL = "__fail__"
TIMED_OUT = {"error": "Trigger timeout"}
CRASHED = {"error": "Trigger failure", "traceback": ["ZeroDivisionError: division by zero"]}


def resume(next_method: str, next_kwargs: dict[str, Any], **overrides: Any) -> Any:
    """Go on after a deferral, in a process of its own as it were."""
    return make_sensor(deferrable=True, **overrides).resume_execution(next_method, next_kwargs, make_context())


def test_the_trigger_gets_what_the_sensor_was_given(connect: Connect) -> None:
    arguments: dict[str, Any] = {
        "name": "app",
        "rayagent_conn_id": "team_a",
        "target": "running",
        "grace_period": 7.0,
        "agent_unreachable_timeout": 8.0,
    }
    with ScriptedAgent() as agent:
        connect(agent, "team_a")
        begun = time.time()
        with pytest.raises(TaskDeferred) as caught:
            make_sensor(deferrable=True, poke_interval=9, timeout=100, **arguments).execute(make_context())
        assert len(agent.of(GET)) == 1
        agent.wait_until(lambda: agent.open_connections == 0)
    deferred = caught.value
    assert isinstance(deferred.trigger, RayAgentServeApplicationTrigger)
    _, given = deferred.trigger.serialize()
    assert {name: given[name] for name in arguments} == arguments
    assert given["poll_interval"] == 9
    assert begun + 100 <= given["deadline"] <= time.time() + 100
    assert (deferred.method_name, deferred.timeout) == ("execute_complete", timedelta(seconds=100 + TIMEOUT_MARGIN))


@pytest.mark.parametrize("interval", [0, 0.1, timedelta(0)])
def test_the_trigger_looks_at_most_twice_a_second(interval: Any, connect: Connect) -> None:
    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(TaskDeferred) as caught:
            make_sensor(deferrable=True, poke_interval=interval).execute(make_context())
    assert caught.value.trigger.serialize()[1]["poll_interval"] == 0.5


@pytest.mark.parametrize(("grace_period", "defers"), [(0, False), (30, True)])
def test_what_the_first_look_decides_needs_no_triggerer(grace_period: float, defers: bool, connect: Connect) -> None:
    error: type[BaseException] = TaskDeferred if defers else RayAgentServeApplicationFailedError
    with ScriptedAgent(applications=[Application(status="DEPLOY_FAILED")]) as agent:
        connect(agent)
        with pytest.raises(error):
            make_sensor(deferrable=True, grace_period=grace_period).execute(make_context())


def test_a_deferral_that_no_triggerer_ended_is_looked_at_once_more(connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [said("DEPLOYING")]}) as agent:
        connect(agent)
        with pytest.raises(
            RayAgentServeApplicationTimeoutError, match=rf"timeout of {PATIENCE:g} seconds\. Its status is: DEPLOYING"
        ):
            resume(FAIL, TIMED_OUT)
        assert len(agent.of(GET)) == 1


def test_one_that_is_running_without_a_triggerer_is_no_timeout(connect: Connect) -> None:
    with ScriptedAgent(applications=[Application()]) as agent:
        connect(agent)
        assert resume(FAIL, TIMED_OUT)["status"] == "RUNNING"


def test_a_refusal_after_a_deferral_that_no_triggerer_ended_is_told(connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [Refuse(401)]}) as agent:
        connect(agent)
        with pytest.raises(RayAgentAuthenticationError):
            resume(FAIL, TIMED_OUT)


@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_a_deferral_that_timed_out_is_skipped_as_a_timeout_in_the_worker_is(option: str, connect: Connect) -> None:
    with ScriptedAgent() as agent, task_log() as log:
        connect(agent)
        with pytest.raises(AirflowSkipException):
            resume(FAIL, TIMED_OUT, **{option: True})
    assert len([message for message in log.messages if "did not become RUNNING within the timeout" in message]) == 1


@pytest.mark.parametrize(
    ("option", "error"),
    [({}, TaskDeferralError), ({"soft_fail": True}, TaskDeferralError), ({"never_fail": True}, AirflowSkipException)],
)
def test_a_trigger_that_crashed_is_an_error_that_only_never_fail_skips(
    option: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        resume(FAIL, CRASHED, **option)


@pytest.mark.parametrize("broken", [None, {}, {"arrival": "boom"}, "x"])
@pytest.mark.parametrize("option", [{}, {"soft_fail": True}])
def test_an_event_that_is_not_ours_is_an_error_and_no_skip(broken: Any, option: dict[str, Any]) -> None:
    with pytest.raises(RayAgentResponseError, match="event is not one of"):
        resume("execute_complete", {"event": broken}, **option)


@pytest.mark.parametrize("answer", [Refuse(404), said("DEPLOYING")], ids=named)
def test_a_look_frees_the_slot_and_comes_back_after_the_interval(answer: Step, connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [answer]}) as agent:
        connect(agent)
        before = datetime.now(tz=timezone.utc)
        with pytest.raises(AirflowRescheduleException) as caught:
            make_sensor(mode="reschedule", poke_interval=90).execute(make_context())
        assert caught.value.reschedule_date - before >= timedelta(seconds=89)
        assert len(agent.of(GET)) == 1
        agent.wait_until(lambda: agent.open_connections == 0)


def test_a_look_comes_back_no_sooner_than_airflow_can_handle(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "seconds_to_resume", lambda: 77)
    with ScriptedAgent(answers={GET: [said("DEPLOYING")]}) as agent:
        connect(agent)
        before = datetime.now(tz=timezone.utc)
        with pytest.raises(AirflowRescheduleException) as caught:
            make_sensor(mode="reschedule", poke_interval=0.1).execute(make_context())
        assert caught.value.reschedule_date - before >= timedelta(seconds=76)


def test_one_that_fails_is_looked_at_until_that_is_decided_and_the_slot_is_kept(connect: Connect) -> None:
    answers: list[Step] = [said("UNHEALTHY"), said("UNHEALTHY"), said("RUNNING")]
    with ScriptedAgent(answers={GET: answers}) as agent:
        connect(agent)
        assert make_sensor(mode="reschedule").execute(make_context())["status"] == "RUNNING"
        agent.answers[GET] = [said("DEPLOY_FAILED", message="no weights")]
        with pytest.raises(RayAgentServeApplicationFailedError, match="no weights"):
            make_sensor(mode="reschedule", grace_period=0.2).execute(make_context())


def test_the_timeout_ends_the_looks_at_one_that_fails(connect: Connect) -> None:
    with ScriptedAgent(answers={GET: [said("UNHEALTHY")]}) as agent:
        connect(agent)
        begun = time.monotonic()
        with pytest.raises(AirflowSensorTimeout):
            make_sensor(grace_period=PATIENCE, timeout=0.3).execute(make_context())
        assert time.monotonic() - begun < PATIENCE


def test_the_timeout_of_rescheduled_looks_counts_from_the_first(connect: Connect) -> None:
    ti = TaskInstance(first_reschedule_date=datetime.now(tz=timezone.utc) - timedelta(seconds=60))
    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(AirflowSensorTimeout):
            make_sensor(mode="reschedule", timeout=30).execute(make_context(ti))
