"""An Airflow home of its own, a quiet environment, and connections that are made as an operator makes them."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import tempfile
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.run import record_looks
from airflow_provider_rayagent.transport.environment import CA_VARIABLES
from tests.level import load_profile
from tests.tail.figures import pytest_sessionfinish, pytest_terminal_summary, pytest_testnodedown
from tests.unit.transports import TRANSPORTS, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.scripted import Job, ScriptedAgent
    from tests.unit.supervisor import Supervisor
    from tests.unit.support import Connect, Serve, TaskInstance, TaskLog

__all__ = ["pytest_sessionfinish", "pytest_terminal_summary", "pytest_testnodedown"]

# Before the modules with random tests are imported.
load_profile()
_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ["AIRFLOW_HOME"] = _HOME.name

LEAK_PATIENCE = 60.0
"""Seconds after which a thread is taken to stay."""
_READ_FROM_THE_ENVIRONMENT = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", *CA_VARIABLES)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine function in an event loop of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _READ_FROM_THE_ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for option in ("TOKEN_FOLDERS", "TLS_FOLDERS"):
        monkeypatch.setenv(f"AIRFLOW__RAYAGENT__{option}", tempfile.gettempdir())


@pytest.fixture(autouse=True)
def _no_pause_before_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tests end with a job that FAILED, of which the scripted agent will never have a record."""
    monkeypatch.setattr("airflow_provider_rayagent.failures.failure_look.AGAIN_SECONDS", 0.01)


@pytest.fixture(autouse=True)
def _no_task_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``execute`` be called by a test."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    monkeypatch.setattr(ExecutorSafeguard, "test_mode", True)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no answer be too late on a slow machine, unless a test says when it is."""
    from airflow_provider_rayagent.connection import config
    from airflow_provider_rayagent.task_instance import stopping
    from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT

    for module, names in (
        (config, ("DEFAULT_CONNECT_TIMEOUT", "DEFAULT_READ_TIMEOUT")),
        (stopping, ("KILL_CONNECT_SECONDS", "KILL_READ_SECONDS")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, MAX_TIMEOUT)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten pauses that no test is about."""
    from airflow_provider_rayagent.position import trigger_position
    from airflow_provider_rayagent.tail import draining, live_stream, status
    from airflow_provider_rayagent.task_instance import resume_delay, supervisor_channel
    from airflow_provider_rayagent.transport import request_retry

    monkeypatch.setattr(request_retry, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(draining, "SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(draining, "FAILING_SECONDS", 2.0)
    monkeypatch.setattr(live_stream, "REOPEN_SECONDS", 0.1)
    monkeypatch.setattr(status, "MIN_GAP_SECONDS", 0.1)
    monkeypatch.setattr(trigger_position, "SAVE_SECONDS", 0.1)
    monkeypatch.setattr(supervisor_channel, "BLIND_DRAIN_SECONDS", 0.0)
    monkeypatch.setattr(resume_delay, "seconds_to_resume", lambda: 0.0)


@pytest.fixture(scope="session", autouse=True)
def _airflows_own_thread() -> None:
    """Start the thread in which Airflow looks a connection up for asyncio code; it stays."""
    from asgiref.sync import sync_to_async

    asyncio.run(sync_to_async(int)())


def is_of_the_page(thread: threading.Thread) -> bool:
    """Whether a thread is of the executor of the Ray page's event loop: it stays, and is a daemon as its starter is."""
    return thread.daemon and thread.name.startswith("asyncio_")


@pytest.fixture(autouse=True)
def _no_thread_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # The thread that looks why jobs wait stays for the next look.
    for name in ("IDLE_SECONDS", "KEPT_SECONDS"):
        monkeypatch.setattr(record_looks, name, 0.1)
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before and not is_of_the_page(thread)]
    for thread in left:
        thread.join(LEAK_PATIENCE)
    assert [thread.name for thread in left if thread.is_alive()] == []


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Return what defines an Airflow connection to an agent, or to a URL."""
    from tests.unit.support import TOKEN

    def connect(agent: Any, conn_id: str = "rayagent_default", **parts: Any) -> str:
        host = agent if isinstance(agent, str) else agent.url
        value = {"conn_type": "rayagent", "host": host, "password": TOKEN, **parts}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(value))
        return conn_id

    return connect


@pytest.fixture
def serve(connect: Connect) -> Iterator[Serve]:
    """Return what starts an agent that ends with the test, and defines the connection to it."""
    from tests.scripted import ScriptedAgent
    from tests.unit.support import TOKEN

    with ExitStack() as agents:

        def serve(
            *jobs: Job,
            conn_id: str = "rayagent_default",
            extra: dict[str, Any] | None = None,
            password: str | None = TOKEN,
            **script: Any,
        ) -> ScriptedAgent:
            agent = agents.enter_context(ScriptedAgent(*jobs, **script))
            # The service of a connection is an agent by default.
            parts = {**({} if agent.service == "agent" else {"service": agent.service}), **(extra or {})}
            connect(agent, conn_id, password=password, extra=parts)
            return agent

        yield serve


@pytest.fixture
def log() -> Iterator[TaskLog]:
    """The task log of the whole test."""
    from tests.unit.support import task_log

    with task_log() as log:
        yield log


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> Supervisor:
    """Airflow's supervisor of a task instance."""
    from tests.unit.supervisor import supervise
    from tests.unit.support import TaskInstance

    return supervise(TaskInstance(), monkeypatch)


@pytest.fixture
def ti(supervisor: Supervisor) -> TaskInstance:
    """A task instance that has a supervisor."""
    return supervisor.ti


@pytest.fixture(params=["worker", "deferred"])
def way(request: pytest.FixtureRequest) -> str:
    """Where a task waits, or follows its job."""
    return str(request.param)


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Transport:
    """Each of the transports."""
    return TRANSPORTS[request.param]
