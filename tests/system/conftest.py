"""One Airflow and one Ray for all tests of this folder."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.stack.agent import EXAMPLE_PLUGINS, LocalAgent, local_agent
from tests.stack.airflow import airflow
from tests.stack.postgres import postgres
from tests.stack.serve import Serve
from tests.stack.statsd import StatsdListener, statsd_listener
from tests.stack.triggerers import Triggerers, triggerers_of
from tests.system import kill_table, watch_table
from tests.system.support import DATABASE, System

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "example_dags"
BUNDLES = [
    {"name": name, "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle", "kwargs": {"path": str(path)}}
    for name, path in (("examples", EXAMPLES), ("system-tests", HERE / "dags"))
]
FIRST, LAST = "test_lineage.py", "test_secrets.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder; the one that reads all that was written comes last.

    The one with an Airflow of its own comes first, so that there is only one at a time.
    """
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.system)
    first, last = ([item for item in ours if item.path.name == name] for name in (FIRST, LAST))
    items[:] = [*first, *(item for item in items if item not in first and item not in last), *last]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables of the tests that kill."""
    kill_table.pytest_terminal_summary(terminalreporter)
    watch_table.pytest_terminal_summary(terminalreporter)


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAgent]:
    """An agent with the plugins of the examples and of these tests."""
    plugins = tmp_path_factory.mktemp("plugins")
    for folder in (*EXAMPLE_PLUGINS.iterdir(), *(HERE / "plugins").iterdir()):
        (plugins / folder.name).symlink_to(folder)
    with local_agent(plugins=plugins) as running:
        yield running


@pytest.fixture(scope="session")
def statsd() -> Iterator[StatsdListener]:
    """Receives the metrics of Airflow."""
    with statsd_listener() as listener:
        yield listener


@pytest.fixture(scope="session")
def system(agent: LocalAgent, statsd: StatsdListener, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    job_page = {"job_url": f"{agent.ray_address}/#/jobs/{{job_id}}"}
    connection = {"conn_type": "rayagent", "host": agent.url, "password": agent.token, "extra": job_page}
    settings = {
        "AIRFLOW__CORE__PARALLELISM": "8",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRIES": "2",
        "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "86400",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(BUNDLES),
        **statsd.settings,
    }
    connections = {"rayagent_default": connection}
    with (
        postgres() as server,
        airflow(
            EXAMPLES, database=server.create_database(DATABASE), connections=connections, settings=settings
        ) as running,
    ):
        yield System(running, agent, server, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="session")
def plain_ray(system: System) -> str:
    """The id of a connection to the Ray behind the agent."""
    return system.connect_ray("plain_ray")


@pytest.fixture(scope="session")
def triggerers(system: System) -> Iterator[Triggerers]:
    """Airflow's triggerers; those that replace a killed one stay for the tests that follow."""
    with triggerers_of(system.airflow) as running:
        yield running


@pytest.fixture(scope="session")
def serve(agent: LocalAgent, tmp_path_factory: pytest.TempPathFactory) -> Serve:
    return Serve(agent, tmp_path_factory.mktemp("serve"))
