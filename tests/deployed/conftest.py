"""One deployment and one Ray for all tests of this folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.deployed.support import Deployed
from tests.stack.agent import LocalAgent, local_agent
from tests.stack.deployment import deployment
from tests.stack.redis import PROGRAMS, find_redis
from tests.system.kill_table import pytest_terminal_summary

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pytest_terminal_summary"]

HERE = Path(__file__).parent
LAST = "test_secrets.py"
# Airflow soon looks for tasks without a heartbeat; see `DeployedTask.forget_heartbeat`.
SETTINGS = {"AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the one that reads all that was written comes last."""
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.deployed)
    last = [item for item in ours if item.path.name == LAST]
    items[:] = [item for item in items if item not in last] + last


@pytest.fixture(scope="session")
def agent() -> Iterator[LocalAgent]:
    if find_redis() is None:
        reason = f"none of {', '.join(PROGRAMS)} is installed (on Debian: apt-get install redis-server)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with local_agent() as running:
        yield running


@pytest.fixture(scope="session")
def deployed(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    connection = {"conn_type": "rayagent", "host": agent.url, "password": agent.token}
    with deployment(HERE / "dags", connections={"rayagent_default": connection}, settings=SETTINGS) as running:
        programs = tmp_path_factory.mktemp("programs")
        yield Deployed(running.airflow, agent, running.database, programs, deployment=running)


@pytest.fixture(scope="session")
def plain_ray(deployed: Deployed) -> str:
    """The id of a connection to the Ray behind the agent."""
    return deployed.connect_ray("plain_ray")
