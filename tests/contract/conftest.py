"""One local agent over one Ray, one process for the third-party client, and our hook."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.contract.client import Client
from tests.stack.agent import LocalAgent, local_agent
from tests.stack.interpreters import interpreter
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook

_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ.setdefault("AIRFLOW_HOME", _HOME.name)

PYTHON = "RAYAGENT_CONTRACT_PYTHON"
CONN_ID = "rayagent_contract"

LINES = [
    *(f"line {number}: é 漢 😀 \x1b[1m|" for number in range(60)),
    "",
    "the same",
    "the same",
    "",
    "",
    "\tby a tab",
    "    by four spaces, and four behind    ",
    '{"type": "complete"}',
    "data: x",
    "the last one has no newline",
]
PRINTS = f"import sys; sys.stdout.write('\\n'.join({LINES!r}))"
FAILS = "print('about to fail', flush=True); raise SystemExit(3)"
RUNS_TASKS = """
import ray
ray.init(log_to_driver=False)
@ray.remote
def double(number): return 2 * number
print(ray.get([double.remote(number) for number in range(3)]))
"""
SLEEPS = "import time; print('asleep', flush=True); time.sleep(3600)"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.contract)


@pytest.fixture(scope="session")
def client_python() -> str:
    """An interpreter that has the third-party client; without one there is nothing to test here."""
    return interpreter(PYTHON, "synapse_sdk.clients.agent")


@pytest.fixture(scope="session")
def agent(client_python: str) -> Iterator[LocalAgent]:
    with local_agent() as running:
        yield running


@pytest.fixture(scope="session")
def client(client_python: str, agent: LocalAgent) -> Iterator[Client]:
    """The third-party client."""
    made = Client(client_python, agent)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def hook(agent: LocalAgent, monkeypatch: pytest.MonkeyPatch) -> Iterator[RayAgentHook]:
    """Our hook."""
    from airflow_provider_rayagent.hooks.rayagent import RayAgentHook

    connection = {"conn_type": "rayagent", "host": agent.url, "password": agent.token}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONN_ID.upper()}", json.dumps(connection))
    with RayAgentHook(CONN_ID) as made:
        yield made


@pytest.fixture(scope="session")
def jobs(agent: LocalAgent) -> dict[str, dict[str, Any]]:
    """Details of jobs that have ended, by what they did: ``prints``, ``fails``, ``tasks``."""
    submitted = {
        name: submit(agent, program) for name, program in (("prints", PRINTS), ("fails", FAILS), ("tasks", RUNS_TASKS))
    }
    return {name: agent.wait(job_id) for name, job_id in submitted.items()}


def submit(agent: LocalAgent, program: str, **fields: Any) -> str:
    """Submit a Python program as a job; return its id."""
    return agent.submit(shlex.join([sys.executable, "-c", program]), **fields)


def same_answer(client: Client, hook: RayAgentHook, method: str, *args: Any) -> Any:
    """Ask both, again while Ray is still moving between the two questions; return the answer."""
    asked: list[Any] = []

    def agree() -> bool | None:
        theirs, kind = client.call_for(method, *args)
        ours = getattr(hook, method)(*args)
        asked[:] = [ours, theirs]
        assert type(ours).__name__ == kind
        return ours == theirs or None

    wait_until(agree, lambda: "the answers differ: {} and {}".format(*asked))
    return asked[0]
