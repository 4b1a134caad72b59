"""Every way by which a text of the agent or of a job reaches Airflow: what is stored, and what is shown."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from airflow.sdk import Asset
from airflow.sdk.exceptions import AirflowTaskTimeout, TaskDeferred
from airflow.sdk.execution_time import comms
from airflow.sdk.serde import deserialize, serialize

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from airflow_provider_rayagent.operators.rayagent import (
    RayAgentDeleteServeApplicationOperator,
    RayAgentRunPluginOperator,
    RayAgentStopJobOperator,
    RayAgentSubmitJobOperator,
)
from airflow_provider_rayagent.sensors.rayagent import (
    RayAgentCapacitySensor,
    RayAgentJobSensor,
    RayAgentServeApplicationSensor,
)
from tests.scripted import Answer, Complete, ErrorEvent, Follow, Job, Play, ScriptedAgent, SetStatus, Sleep
from tests.stack.watch import PATIENCE
from tests.unit.both_ways import event_of
from tests.unit.sensors.applications import GET as GET_APPLICATION
from tests.unit.sensors.applications import said
from tests.unit.supervisor import supervise
from tests.unit.support import StateStore, TaskInstance, make_context, task_log
from tests.unit.triggers.driver import make_trigger, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from tests.unit.support import Connect

START, END = "__RAYAGENT_RESULT_START__", "__RAYAGENT_RESULT_END__"
GET = "GET jobs/j1/"
STOP = "POST jobs/j1/stop/"
RUN = "POST plugin_releases/train@1.0/run/"
ENDED = {"end_time": 1_700_000_001_000}
"""With these details a job has ended, whatever its status is called."""
PAGES = {
    "metrics_url": "https://pages.example.com/{node_id}?from={start}&to={end}",
    "history_url": "https://pages.example.com/{host}/{job_id}",
}
SAVES_POSITION: dict[str, Any] = {}
"""With these arguments a task stores its position in the log; before Airflow 3.3 there are none."""
if find_spec("airflow.sdk.definitions.retry_policy"):
    from airflow_provider_rayagent.policies.retry import RayAgentRetryPolicy

    SAVES_POSITION["retry_policy"] = RayAgentRetryPolicy()
FOLLOW: dict[str, Any] = {"task_id": "follow", "job_id": "j1", "poke_interval": 0.5}


def texts_in(value: Any) -> Iterator[str]:
    """Yield every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from texts_in([*value.keys(), *value.values()])
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from texts_in(each)


def through_airflow(value: Any) -> Any:
    """Return what another task gets of a value: by Airflow's own code to the API server, into a column and back.

    :raises Exception: whatever Airflow raises where it cannot carry the value.
    """
    sent = comms.SetXCom(key="k", value=serialize(value), dag_id="d", run_id="r", task_id="t")
    msgspec.msgpack.encode(sent.model_dump())
    received = comms.SetXCom.model_validate_json(sent.model_dump_json()).value
    column = json.dumps(received, allow_nan=False)
    # PostgreSQL's jsonb refuses NUL.
    assert not [text for text in texts_in(received) if "\0" in text]
    return deserialize(json.loads(column))


class Scene:
    """A task among its surroundings, and what came of it.

    :param text: what the agent and the job say wherever they can.
    :param key: of the job's result; ``None``: the text as well.
    """

    def __init__(
        self,
        text: str,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        *,
        key: str | None = None,
        **connection: Any,
    ) -> None:
        self.text = text
        self._key = text if key is None else key
        self.stored: list[Any] = []
        """Every value that Airflow was given to keep."""
        self.told: list[str] = []
        """Every text that the task log shows."""
        self.ti = TaskInstance()
        self._connect = connect
        self._connection = {**connection, "extra": {**PAGES, **connection.get("extra", {})}}
        self._store = StateStore()
        self._events: defaultdict[Any, Any] = defaultdict(lambda: SimpleNamespace(extra={}))
        self.context = make_context(self.ti, task_state_store=self._store, outlet_events=self._events)
        self._supervisor = supervise(self.ti, monkeypatch)

    def job(self, end: str | None = None, **overrides: Any) -> Job:
        """Return a job that says the text, runs for a moment and ends in this status; ``None``: in one that is it."""
        text = self.text
        # A log is UTF-8, in which no half of a surrogate pair can stand.
        line = "".join(char for char in text if not "\ud800" <= char <= "\udfff")
        result = json.dumps({self._key: [text, line]})
        details = {
            "error_type": text,
            "driver_node_id": text,
            "driver_exit_code": text,
            "type": text,
            "metadata": {text: [text, 2**70], "__classname__": text, "__version__": 1},
            **overrides.pop("details", {}),
        }
        streams = [Play(ErrorEvent(text), Follow(), Complete())]
        arguments = {
            "status": "RUNNING",
            "message": text,
            "entrypoint": text,
            "timeline": [Sleep(0.3), SetStatus(text if end is None else end, text)],
            "ws": streams,
            "sse": streams,
            "details": details if end else {**details, **ENDED},
            **overrides,
        }
        log = f"{line}\n{'x' * 370}{line * 3}\n{'y' * 490}{line}\n{START}{result}{END}\n"
        return Job(log, **arguments)

    @contextmanager
    def agent(self, *jobs: Job, **answers: Any) -> Iterator[ScriptedAgent]:
        """Give an agent to which the connection leads."""
        with ScriptedAgent(*jobs, answers={STOP: [Answer(200, {"stopped": self.text})], **answers}) as agent:
            self._connect(agent, **self._connection)
            yield agent

    def carry_out(self, make: Callable[[], Any]) -> None:
        """Execute a task to its end, deferred if it defers; keep all that Airflow is given."""
        with task_log() as log:
            try:
                self.stored.append(self._outcome(make))
            except (Exception, AirflowTaskTimeout) as error:  # noqa: BLE001 - whatever it is, it has words
                self.told.append(str(error))
        self.told += log.messages
        self.stored += [*self._supervisor.saved, *self.ti.xcoms.values(), *self._store.values()]
        self.stored += [event.extra for event in self._events.values()]

    def _outcome(self, make: Callable[[], Any]) -> Any:
        try:
            return make().execute(self.context)
        except TaskDeferred as deferred:
            event = event_of(self.ti, deferred)
            kwargs = {**(deferred.kwargs or {}), "event": event}
            self.stored += [deferred.trigger.serialize()[1], kwargs]
            return make().resume_execution(str(deferred.method_name), kwargs, self.context)


def followed(scene: Scene, status: str | None, **options: Any) -> None:
    """Follow a job with a sensor."""
    arguments: dict[str, Any] = {"read_result": True, "max_line_length": 400, **SAVES_POSITION, **options}
    with scene.agent(scene.job(status)):
        scene.carry_out(lambda: RayAgentJobSensor(**FOLLOW, timeout=PATIENCE, outlets=[Asset("model")], **arguments))


def not_ended(scene: Scene, **options: Any) -> None:
    """Follow a job that goes on, in a status of its own, after the task's time."""
    with scene.agent(scene.job("RUNNING", status=scene.text, timeline=())):
        scene.carry_out(lambda: RayAgentJobSensor(**FOLLOW, timeout=1, stop_job_on_kill=True, **options))


def refused(scene: Scene, **options: Any) -> None:
    """Follow a job of which the agent has only an error to tell."""
    errors = [Answer(200, Job(status="RUNNING").as_details()), Answer(500, {"detail": scene.text})]
    with scene.agent(Job(status="RUNNING"), **{GET: errors}):
        scene.carry_out(lambda: RayAgentJobSensor(**FOLLOW, agent_unreachable_timeout=0.5, **options))


def waited(scene: Scene, status: str | None, *, timeout: float = PATIENCE, **options: Any) -> None:
    """Wait for a Serve application."""
    text = scene.text
    more = {
        **dict.fromkeys(("message", "route_prefix", "docs_path"), text),
        "last_deployed_time_s": 10**400,
        "deployments": {text: {"status": text}, "__classname__": {"status": text}, "__version__": {"status": 1}},
    }
    arguments: dict[str, Any] = {"task_id": "wait", "name": "app", "poke_interval": 0.5, "grace_period": 0, **options}
    with scene.agent(**{GET_APPLICATION: [said("DEPLOYING", **more), said(status or text, **more)]}):
        scene.carry_out(lambda: RayAgentServeApplicationSensor(timeout=timeout, **arguments))


def had(scene: Scene, cpus: float, **options: Any) -> None:
    """Wait for four CPUs on one node, of which only texts and this number are known."""
    cpu = {"total": 4.0, "available": cpus, "used": scene.text}
    node = {**dict.fromkeys(("node_id", "ip", "host_name", "accelerator_type"), scene.text), "cpu": cpu}
    arguments: dict[str, Any] = {"task_id": "wait", "poke_interval": 0.5, "timeout": 1, **options}
    with scene.agent(**{"GET resources/cluster/": [Answer(200, {"nodes": [scene.text, node]})]}):
        scene.carry_out(lambda: RayAgentCapacitySensor(num_cpus=4, on_one_node=True, **arguments))


def stopped(scene: Scene, *, ended: bool, **options: Any) -> None:
    """Stop a job."""
    arguments: dict[str, Any] = {"task_id": "stop", "job_id": "j1", "poll_interval": 0.5, "timeout": 1, **options}
    with scene.agent(scene.job("RUNNING", status=scene.text, timeline=(), details=ENDED if ended else {})):
        scene.carry_out(lambda: RayAgentStopJobOperator(**arguments))


def deleted(scene: Scene, **options: Any) -> None:
    """Delete a Serve application; its status is no text on the first look, and later one that stays."""
    answers = [said({scene.text: 2**70}), said(scene.text)]  # type: ignore[arg-type]
    arguments: dict[str, Any] = {"task_id": "delete", "name": "app", "poll_interval": 0.5, "timeout": 1, **options}
    with scene.agent(**{GET_APPLICATION: answers, "DELETE serve_applications/app/": [Answer(204, None)]}):
        scene.carry_out(lambda: RayAgentDeleteServeApplicationOperator(**arguments))


def ran(scene: Scene, *, there: Literal["no", "running", "ended"], **options: Any) -> None:
    """Run a plugin, whose job may be there already, in a status of its own."""

    def start(request: Any) -> Any:
        job_id = json.loads(request.body)["job_id"]
        agent.jobs[job_id] = scene.job("SUCCEEDED", job_id=job_id)
        return Answer(200, {"job_id": job_id, "more": scene.text})

    until = [Sleep(1.5), SetStatus("SUCCEEDED", scene.text)] if there == "running" else []
    end = "SUCCEEDED" if there == "running" else None
    jobs = [] if there == "no" else [scene.job(end, status=scene.text, timeline=until, job_id="own")]
    arguments: dict[str, Any] = {"task_id": "run", "lookup": "train@1.0", "action": "train", **options}
    with scene.agent(*jobs, **{RUN: [start]}) as agent:
        scene.carry_out(lambda: RayAgentRunPluginOperator(job_id="own", poll_interval=0.5, **arguments))


def submitted(scene: Scene, **options: Any) -> None:
    """Submit a job, of which the answer and the details say anything."""

    def start(request: Any) -> Any:
        agent.jobs["own"] = scene.job("FAILED", job_id="own", details={"runtime_env": {"env_vars": scene.text}})
        return Answer(200, {"job_id": scene.text})

    arguments: dict[str, Any] = {"task_id": "submit", "entrypoint": "python train.py", "poll_interval": 0.5, **options}
    with scene.agent(**{"GET health/": [Answer(200, {"accepts_submissions": True})], "POST jobs/": [start]}) as agent:
        scene.carry_out(lambda: RayAgentSubmitJobOperator(job_id="own", **arguments))
        agent.answers["POST jobs/"] = [Answer(400, {"detail": scene.text})]
        scene.carry_out(lambda: RayAgentSubmitJobOperator(job_id="other", **arguments))


def killed(scene: Scene) -> None:
    """Have a user end a deferred task, which stops its job."""

    async def kill() -> None:
        trigger = make_trigger(scene.ti, stop_job_on_kill=True)
        async with running(trigger):
            await agent.reached(lambda: agent.open_streams["j1"])
            await trigger.on_kill()

    scene._supervisor.state = None
    with scene.agent(scene.job("RUNNING", timeline=())) as agent, task_log() as log:
        asyncio.run(kill())
    scene.told += log.messages


def hooked(scene: Scene) -> None:
    """Read a log with both hooks, and test the connection."""

    async def read() -> None:
        async with RayAgentAsyncHook() as hook:
            async for _ in hook.tail_job_logs("j1"):
                pass

    health = Answer(200, {"status": "ok", "version": scene.text})
    with scene.agent(scene.job("SUCCEEDED"), **{"GET health/": [health]}), task_log() as log, RayAgentHook() as hook:
        list(hook.tail_job_logs("j1"))
        asyncio.run(read())
        scene.told.append(hook.test_connection()[1])
    scene.told += log.messages


_BOTH_WAYS: dict[str, Callable[..., None]] = {
    "a job succeeds": partial(followed, status="SUCCEEDED"),
    "a job fails": partial(followed, status="FAILED"),
    "a job fails unseen": partial(followed, status="FAILED", forward_logs=False),
    "a job ends oddly": partial(followed, status=None),
    "a job goes on": not_ended,
    "an agent refuses": refused,
    "an application runs": partial(waited, status="RUNNING"),
    "an application fails": partial(waited, status="DEPLOY_FAILED"),
    "an application is odd": partial(waited, status=None, timeout=1),
    "resources are free": partial(had, cpus=4.0),
    "resources are missing": partial(had, cpus=1.0),
    "a stop is not obeyed": partial(stopped, ended=False),
    "a stop finds the end": partial(stopped, ended=True, if_finished="fail"),
    "a stop is not waited for": partial(stopped, ended=False, wait_for_termination=False),
    "an application stays": deleted,
    "an application is left": partial(deleted, wait_for_deletion=False),
    "a plugin runs": partial(ran, there="no"),
    "a plugin's job is odd": partial(ran, there="running"),
    "a plugin's job has ended oddly": partial(ran, there="ended"),
    "a job is submitted": submitted,
}
WAYS: dict[str, Callable[[Scene], None]] = {
    "a job is killed": killed,
    "a hook reads": hooked,
    **{f"{name}, in a worker": partial(way, deferrable=False) for name, way in _BOTH_WAYS.items()},
    **{f"{name}, deferred": partial(way, deferrable=True) for name, way in _BOTH_WAYS.items()},
}
