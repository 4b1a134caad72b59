"""How each task that can be deferred leaves its worker, when it resumes, and what the next worker makes of that."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from itertools import product
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
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentJobTimeoutError,
    RayAgentResponseError,
    RayAgentWaitTimeoutError,
)
from airflow_provider_rayagent.task_instance import resume_delay
from airflow_provider_rayagent.task_instance.resume_delay import MARGIN_SECONDS, seconds_to_resume
from airflow_provider_rayagent.tasks.deferring import TIMEOUT_MARGIN
from airflow_provider_rayagent.triggers.applications import RayAgentServeApplicationTrigger
from airflow_provider_rayagent.triggers.capacity import RayAgentCapacityTrigger
from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger
from tests.scripted import Application, Job, Refuse, ScriptedAgent, SetStatus, Sleep
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import execute
from tests.unit.clusters import NODES, USED
from tests.unit.operators import test_delete_application, test_stop_job
from tests.unit.sensors import applications, capacity, factory
from tests.unit.supervisor import supervise
from tests.unit.support import HOSTILE_IDS, TaskInstance, make_context
from tests.unit.triggers.driver import fired, make_trigger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.support import Connect, Serve, TaskLog

FAIL = "__fail__"
TIMED_OUT = {"error": "Trigger timeout"}
CRASHED = {"error": "Trigger failure", "traceback": ["ZeroDivisionError: division by zero"]}


@dataclass(frozen=True)
class Deferrable:
    """A task that can be deferred.

    :param make: makes it.
    :param serve: starts an agent for which it waits, or that has already what it waits for.
    :param look: route of a request for that.
    :param trigger: class of its trigger.
    :param timeout: class and words of the error of a deferral that no triggerer has ended.
    :param arguments: for the task, which its trigger gets too.
    :param more: what else its trigger gets.
    :param interval: name of the argument for the interval.
    :param shortest: the shortest interval, in seconds.
    """

    make: Callable[..., Any]
    serve: Callable[[Serve, bool], ScriptedAgent]
    look: str
    trigger: type[Any]
    timeout: tuple[type[Exception], str]
    arguments: dict[str, Any]
    more: dict[str, Any] = field(default_factory=dict)
    interval: str = "poke_interval"
    shortest: float = 0

    def resume(self, next_method: str, next_kwargs: dict[str, Any], **options: Any) -> Any:
        """Go on after a deferral, in a process of its own as it were."""
        return self.make(deferrable=True, **options).resume_execution(next_method, next_kwargs, make_context())


SENSORS = {
    "job": Deferrable(
        factory.make_sensor,
        lambda serve, done: serve(Job("a\n", "SUCCEEDED" if done else "RUNNING")),
        "GET jobs/j1/",
        RayAgentJobTrigger,
        (RayAgentJobTimeoutError, rf"did not end within the timeout of {PATIENCE:g} seconds; its status is RUNNING"),
        {
            "job_id": "j1",
            "forward_logs": False,
            "protocol": "http",
            "job_missing_timeout": 7.0,
            "agent_unreachable_timeout": 8.0,
            "max_line_length": 900,
            "stop_job_on_kill": True,
            "log_storage": "remote",
        },
        {"position": None, "result_markers": [], "start_deadline": None},
    ),
    "application": Deferrable(
        applications.make_sensor,
        lambda serve, done: serve(applications=[Application(status="RUNNING" if done else "DEPLOYING")]),
        "GET serve_applications/app/",
        RayAgentServeApplicationTrigger,
        (
            RayAgentWaitTimeoutError,
            rf"did not become RUNNING within the timeout of {PATIENCE:g} seconds\. Its status is: DEPLOYING",
        ),
        {"name": "app", "target": "running", "grace_period": 7.0, "agent_unreachable_timeout": 8.0},
    ),
    "capacity": Deferrable(
        capacity.make_sensor,
        lambda serve, done: serve(nodes=NODES, used={} if done else USED),
        "GET resources/cluster/",
        RayAgentCapacityTrigger,
        (RayAgentWaitTimeoutError, rf"timeout of {PATIENCE:g} seconds\. .*Required: 4 GPUs\. Missing: 2 GPUs"),
        {
            "num_gpus": 4,
            "num_cpus": 1.5,
            "memory_bytes": 10,
            "accelerator_type": "A100",
            "on_one_node": True,
            "wait_for_scale_up": True,
            "agent_unreachable_timeout": 8.0,
        },
    ),
}
OPERATORS = {
    "stop": Deferrable(
        test_stop_job.make_operator,
        lambda serve, done: serve(Job("a\n", "RUNNING", stop_delay=PATIENCE)),
        "GET jobs/j1/",
        RayAgentJobTrigger,
        (RayAgentError, "No triggerer reported an outcome after"),
        {"job_id": "j1"},
        {"forward_logs": False, "stop_job_on_kill": False},
        "poll_interval",
        0.1,
    ),
    "deletion": Deferrable(
        test_delete_application.make_operator,
        lambda serve, done: serve(applications=[Application("app", gone_after=None)]),
        "GET serve_applications/app/",
        RayAgentServeApplicationTrigger,
        (RayAgentError, "No triggerer reported an outcome after"),
        {"name": "app"},
        {"target": "gone"},
        "poll_interval",
        0.1,
    ),
}
TASKS = {**SENSORS, **OPERATORS}
each_task = pytest.mark.parametrize("task", TASKS.values(), ids=list(TASKS))
each_operator = pytest.mark.parametrize("task", OPERATORS.values(), ids=list(OPERATORS))
each_sensor = pytest.mark.parametrize("task", SENSORS.values(), ids=list(SENSORS))


@each_task
@pytest.mark.parametrize(
    "timeouts",
    [
        {"timeout": 100},
        {"timeout": 100, "execution_timeout": timedelta(seconds=400)},
        {"timeout": 500, "execution_timeout": timedelta(seconds=100)},
    ],
    ids=" ".join,
)
def test_the_trigger_gets_what_the_task_was_given(
    timeouts: dict[str, Any], task: Deferrable, serve: Serve, connect: Any, log: TaskLog
) -> None:
    agent = task.serve(serve, False)
    connect(agent, "team_a")
    begun = time.time()
    with pytest.raises(TaskDeferred) as caught:
        task.make(
            deferrable=True, rayagent_conn_id="team_a", **{task.interval: 9}, **timeouts, **task.arguments
        ).execute(make_context())
    agent.wait_until(lambda: agent.open_connections == 0)
    assert len(agent.of(task.look)) == 1
    assert len([message for message in log.messages if message.startswith("Deferring: ")]) == 1
    deferred = caught.value
    assert type(deferred.trigger) is task.trigger
    path, given = deferred.trigger.serialize()
    expected = {**task.arguments, **task.more, "rayagent_conn_id": "team_a", "poll_interval": 9}
    assert {name: given[name] for name in expected} == expected
    assert begun + 100 <= given["deadline"] <= time.time() + 100
    assert (deferred.method_name, deferred.timeout) == ("execute_complete", timedelta(seconds=100 + TIMEOUT_MARGIN))
    assert task.trigger(**given).serialize() == (path, given)


@each_task
def test_the_trigger_looks_at_most_twice_a_second(task: Deferrable, serve: Serve) -> None:
    task.serve(serve, False)
    for interval in (task.shortest, timedelta(seconds=task.shortest)):
        with pytest.raises(TaskDeferred) as caught:
            task.make(deferrable=True, **{task.interval: interval}).execute(make_context())
        assert caught.value.trigger.serialize()[1]["poll_interval"] == 0.5


@each_task
@pytest.mark.parametrize(
    "broken", [None, {}, {"end": "boom"}, {"arrival": "boom"}, "x", {"arrival": None, "capacity": 7, "error": None}]
)
def test_an_event_that_is_not_ours_is_an_error_and_no_skip(broken: Any, task: Deferrable, serve: Serve) -> None:
    task.serve(serve, False)
    for options in ({}, {"soft_fail": True}) if task in SENSORS.values() else ({},):
        with pytest.raises(RayAgentResponseError, match=f"event is not one of {task.trigger.__name__}"):
            task.resume("execute_complete", {"event": broken}, **options)


@each_task
def test_a_deferral_that_no_triggerer_ended_is_a_timeout_after_one_more_look(task: Deferrable, serve: Serve) -> None:
    agent = task.serve(serve, False)
    error, words = task.timeout
    with pytest.raises(error, match=words):
        task.resume(FAIL, TIMED_OUT)
    assert len(agent.of(task.look)) == (task in SENSORS.values())


@each_sensor
def test_what_is_there_without_a_triggerer_is_no_timeout(task: Deferrable, serve: Serve) -> None:
    task.serve(serve, True)
    assert task.resume(FAIL, TIMED_OUT)


@each_sensor
def test_a_refusal_after_a_deferral_that_no_triggerer_ended_is_told(task: Deferrable, serve: Serve) -> None:
    serve(answers={task.look: [Refuse(401)]})
    with pytest.raises(RayAgentHTTPError, match="answered 401"):
        task.resume(FAIL, TIMED_OUT)


@each_sensor
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_a_deferral_that_timed_out_is_skipped_as_a_timeout_in_the_worker_is(
    option: str, task: Deferrable, serve: Serve, log: TaskLog
) -> None:
    task.serve(serve, False)
    with pytest.raises(AirflowSkipException):
        task.resume(FAIL, TIMED_OUT, **{option: True})
    assert len([message for message in log.messages if "within the timeout" in message]) == 1


@each_task
def test_a_trigger_that_crashed_is_an_error_that_only_never_fail_skips(task: Deferrable) -> None:
    with pytest.raises(TaskDeferralError):
        task.resume(FAIL, CRASHED)
    if task in SENSORS.values():
        with pytest.raises(TaskDeferralError):
            task.resume(FAIL, CRASHED, soft_fail=True)
        with pytest.raises(AirflowSkipException):
            task.resume(FAIL, CRASHED, never_fail=True)


@each_sensor
@pytest.mark.parametrize(("interval", "resumable", "seconds"), [(90, 0, 90), (0.1, 77, 77)])
def test_a_look_frees_the_slot_and_comes_back_after_the_interval_or_when_airflow_can_handle_it(
    interval: float, resumable: int, seconds: float, task: Deferrable, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume_delay, "seconds_to_resume", lambda: resumable)
    agent = task.serve(serve, False)
    begun = datetime.now(tz=timezone.utc)
    with pytest.raises(AirflowRescheduleException) as caught:
        task.make(mode="reschedule", poke_interval=interval).execute(make_context())
    late = datetime.now(tz=timezone.utc) - begun
    assert timedelta(seconds=seconds - 1) < caught.value.reschedule_date - begun < timedelta(seconds=seconds + 1) + late
    assert len(agent.of(task.look)) == 1
    agent.wait_until(lambda: agent.open_connections == 0)


@each_sensor
def test_the_timeout_of_rescheduled_looks_counts_from_the_first(task: Deferrable, serve: Serve) -> None:
    ti = TaskInstance(first_reschedule_date=datetime.now(tz=timezone.utc) - timedelta(seconds=60))
    task.serve(serve, False)
    with pytest.raises(AirflowSensorTimeout):
        task.make(mode="reschedule", timeout=30).execute(make_context(ti))
    with pytest.raises(AirflowSkipException):
        task.make(mode="reschedule", timeout=30, soft_fail=True).execute(make_context(ti))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *product(("job", "stop"), [value for value in HOSTILE_IDS if isinstance(value, str)]),
        *product(("application", "deletion"), ["", " ", "a/b", "..", "a\nb"]),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("deferrable", [False, True])
def test_a_hostile_id_or_name_is_refused_before_anything_is_sent(
    deferrable: bool, name: str, value: str, serve: Serve
) -> None:
    agent = serve()
    field, words = ("job_id", "job id") if name in ("job", "stop") else ("name", "application name")
    with pytest.raises(RayAgentInputError, match=words):
        TASKS[name].make(**{field: value}, deferrable=deferrable).execute(make_context())
    assert agent.connections == 0


@each_operator
def test_a_kill_ends_the_waiting_at_once(task: Deferrable, serve: Serve) -> None:
    agent = task.serve(serve, False)
    operator = task.make(poll_interval=PATIENCE, timeout=2 * PATIENCE)
    agent.on_request = lambda request: operator.on_kill() if len(agent.of(task.look)) > 1 else None
    begun = time.monotonic()
    with pytest.raises(RayAgentError, match="after"):
        operator.execute(make_context())
    assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize("name", ["job", "application", "stop", "deletion"])
def test_what_it_waits_for_and_the_connection_are_templates(name: str, way: str, serve: Serve) -> None:
    task = TASKS[name]
    field = "job_id" if "job_id" in task.arguments else "name"

    def make() -> Any:
        made = task.make(
            **{field: "canary-{{ night }}"}, rayagent_conn_id="team_{{ team }}", deferrable=way == "deferred"
        )
        made.render_template_fields({"night": "7", "team": "a"})
        return made

    job = Job("a\n", "RUNNING", "canary-7", timeline=[] if name == "stop" else [Sleep(0.1), SetStatus("SUCCEEDED")])
    applications = [Application("canary-7", "RUNNING")]
    serve(job, applications=applications, conn_id="team_a")
    found = execute(make, make_context())
    assert found.get("submission_id", found.get(field)) == "canary-7"


SECONDS = 0.7
TRIGGERS: dict[str, Callable[[], Any]] = {
    "job": make_trigger,
    "application": lambda: RayAgentServeApplicationTrigger(name="app"),
    "capacity": lambda: RayAgentCapacityTrigger(num_cpus=0),
}


def seconds_until_fired(monkeypatch: pytest.MonkeyPatch, trigger: Any) -> float:
    """Run a trigger of a task; return how long it takes until it fires."""
    monkeypatch.setattr(resume_delay, "seconds_to_resume", lambda: SECONDS)
    trigger.task_instance = make_context()["ti"]
    supervise(trigger.task_instance, monkeypatch)
    began = time.monotonic()
    asyncio.run(fired(trigger))
    return time.monotonic() - began


@pytest.mark.parametrize("which", TRIGGERS)
def test_what_has_happened_already_resumes_the_task_later(
    which: str, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(Job("a\n", "SUCCEEDED"), applications=[Application("app")])
    assert seconds_until_fired(monkeypatch, TRIGGERS[which]()) >= SECONDS


def test_so_does_an_agent_that_cannot_be_reached(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(NO_AGENT)
    assert seconds_until_fired(monkeypatch, make_trigger(agent_unreachable_timeout=0)) >= SECONDS


def test_without_a_scheduler_nothing_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "sleep", pytest.fail)
    asyncio.run(resume_delay.pause_until_resumable(time.monotonic(), None))


def test_the_wait_is_longer_than_airflow_takes_to_notice_the_end_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_to_resume() == 5 + MARGIN_SECONDS
    monkeypatch.setenv("AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL", "30")
    assert seconds_to_resume() == 30 + MARGIN_SECONDS
