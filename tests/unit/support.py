"""What the unit tests share: factories, a task's surroundings, and what the task log got."""

from __future__ import annotations

import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid4

import structlog.testing
from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.sdk.execution_time.comms import ErrorResponse

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.run import job_finder, job_start
from airflow_provider_rayagent.tail.items import LogLines
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from tests.scripted import Action, Answer, Play

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

    from airflow_provider_rayagent.tail.items import Item
    from tests.scripted import Job, ScriptedAgent

TOKEN = "agent-s3cret-token"
GROWING_TIMEOUTS = [2.0**exponent for exponent in range(-1, 9)]
"""Seconds. For tries that must succeed before they time out: on a slow machine, the first ones are too short."""
HOSTILE_IDS: list[Any] = [
    "",
    " ",
    "../nodes",
    "..",
    "j1/stop",
    "j1?x=1",
    "j1#x",
    "j 1",
    "j1\n",
    "j1\r\nX: y",
    "j1%2e",
    "jé",
    "٣",
    "a" * 101,
    None,
    7,
    b"j1",
    ["j1"],
]


def items_of(*values: Item | str) -> list[Item]:
    """Return items, lines of a log among them as mere texts, as the following of a job gives them."""
    return [LogLines([value]) if isinstance(value, str) else value for value in values]


def until(moment: float) -> Iterator[str]:
    """Yield RUNNING before a moment, in seconds since the epoch, and SUCCEEDED from then on: a job's ``polls``."""
    while True:
        yield "RUNNING" if time.time() < moment else "SUCCEEDED"


class Connect(Protocol):
    """Define an Airflow connection."""

    def __call__(self, agent: ScriptedAgent | str, conn_id: str = ..., **parts: Any) -> str: ...


class Serve(Protocol):
    """Start a :class:`ScriptedAgent` that ends with the test, and define the connection to it.

    The arguments are the agent's, and those of :class:`Connect`.
    """

    def __call__(
        self,
        *jobs: Job,
        conn_id: str = ...,
        extra: dict[str, Any] | None = ...,
        password: str | None = ...,
        **script: Any,
    ) -> ScriptedAgent: ...


def make_agent(agent: ScriptedAgent | str, *, sleep: Callable[[float], None] | None = None, **parts: Any) -> Any:
    """Return a blocking transport to an agent, with our token.

    :param sleep: gets the seconds of every pause; default: no pause at all.
    """
    url = agent if isinstance(agent, str) else agent.url
    return BlockingServiceClient(read_config(**{"host": url, "token": TOKEN, **parts}), sleep=sleep or _no_pause)


def _no_pause(seconds: float) -> None:
    """Do not wait."""


@dataclass
class TaskInstance:
    """As much of a running task instance as operators, sensors and triggers use."""

    try_number: int = 1
    first_reschedule_date: Any = None
    xcoms: dict[str, Any] = field(default_factory=dict)
    dag_id: str = "night"
    task_id: str = "follow"
    run_id: str = "run-7"
    map_index: int = -1
    region_id: UUID | None = None
    region_index: int | None = None
    id: UUID = field(default_factory=uuid4)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value

    def xcom_pull(self, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index)
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: Any) -> Any:
        return self.first_reschedule_date


@dataclass
class LoopTaskInstance(TaskInstance):
    """A task instance of the second iteration of a loop."""

    region_id: UUID | None = field(default_factory=uuid4)
    region_index: int | None = 1


class StateStore(dict[str, Any]):
    """Airflow's task state store, in memory."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class RefusingStore(StateStore):
    """One that refuses a key, as Airflow does to a task that was cleared."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self._refused = key

    def set(self, key: str, value: Any) -> None:
        if key == self._refused:
            raise AirflowRuntimeError(ErrorResponse())
        super().set(key, value)


def make_context(ti: TaskInstance | None = None, **more: Any) -> Any:
    ti = ti or TaskInstance()
    dag_run = SimpleNamespace(run_id=ti.run_id, logical_date=None, triggering_user_name="ada")
    task = SimpleNamespace(owner="research", email=None)
    return {"ti": ti, "task_instance": ti, "dag_run": dag_run, "task": task, **more}


class TaskLog:
    """What ``self.log`` of hooks, operators and sensors got."""

    def __init__(self, entries: list[Any]) -> None:
        self._entries = entries

    @property
    def messages(self) -> list[str]:
        """The messages at INFO and above, in order."""
        return [entry["event"] for entry in self._entries if entry["log_level"] != "debug"]

    @property
    def warnings(self) -> list[str]:
        return [entry["event"] for entry in self._entries if entry["log_level"] == "warning"]

    def lines_of(self, text: str, after: int = 0) -> list[str]:
        """Return the lines of this job log, in the order in which they came; a slow machine joins some in a message.

        :param after: the number of messages to leave out.
        """
        lines = set(text.splitlines())
        messages = [message.split("\n") for message in self.messages[after:]]
        return [line for message in messages if lines.issuperset(message) for line in message]


@contextmanager
def task_log() -> Iterator[TaskLog]:
    """Give the task log of what is done meanwhile."""
    with structlog.testing.capture_logs() as entries:
        yield TaskLog(entries)


def shorten_job_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let operators that start jobs wait shortly for the effect of a stop, and check the status often."""
    monkeypatch.setattr(job_finder, "STOP_SECONDS", 0.3)
    for module in (job_finder, job_start):
        monkeypatch.setattr(module, "STATUS_CHECK_SECONDS", 0.05)


def remote_url(agent: ScriptedAgent, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a URL of an agent whose host seems to be another machine."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *rest, **more: resolve("127.0.0.1", *rest, **more))
    return agent.url.replace("127.0.0.1", "agent.example.com")


def named(step: object) -> str:
    """Return a short name of a script's step, for a test's id."""
    if isinstance(step, list):
        return " then ".join(dict.fromkeys(map(named, step)))
    if isinstance(step, Play):
        return " ".join(map(named, step.actions))
    if isinstance(step, Answer):
        return f"{step.status}{' page' if step.content_type else ''}{' cut' if step.length else ''}"
    return type(step).__name__ if isinstance(step, Action) else ascii(step)
