"""When a server dies, the tests that use it fail immediately with its name and its last lines."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]
import pytest

from tests.stack.agent import local_agent
from tests.stack.airflow import COMPONENTS, Airflow, airflow
from tests.stack.postgres import Postgres, postgres
from tests.stack.watch import ServerDiedError, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.stack.processes import Server


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with postgres() as running:
        yield running


@pytest.fixture(scope="module")
def instance(database: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """An Airflow without a DAG."""
    with airflow(tmp_path_factory.mktemp("dags"), database=database.create_database("airflow")) as running:
        yield running


@pytest.mark.parametrize("name", COMPONENTS)
def test_requests_and_waits_fail_if_airflow_component_has_died(instance: Airflow, name: str) -> None:
    server = instance.components[name]
    kill(server)
    assert_death_is_reported(instance, server, f"Airflow's {name} was killed by SIGKILL")


def test_requests_and_waits_fail_if_database_has_died(instance: Airflow, database: Postgres) -> None:
    kill(database.server)
    assert_death_is_reported(instance, database.server, "PostgreSQL was killed by SIGKILL")
    # Without a database they end too, each in its own time: that must not be reported in the next test.
    for server in instance.components.values():
        server.expect_end()


def test_requests_and_waits_fail_if_ray_has_died(tmp_path: Path) -> None:
    with local_agent() as agent:
        job_id = agent.submit("sleep 3600")
        agent.wait(job_id, statuses=["RUNNING"])
        children = psutil.Process(agent.pid).children(recursive=True)
        next(child for child in children if child.name() == "gcs_server").kill()
        with pytest.raises(
            ServerDiedError, match=r"^the local agent ended with exit code 1; (.*\n)*.*Ray head has exited"
        ):
            agent.wait(job_id)
        with pytest.raises(ServerDiedError, match=r"^the local agent "):
            agent.request("GET", "health/")


def kill(server: Server) -> None:
    """Kill a server that is not expected to end, and wait until it has ended."""
    os.kill(server.pid, signal.SIGKILL)
    os.waitid(os.P_PID, server.pid, os.WEXITED | os.WNOWAIT)


def written_by(server: Server) -> str:
    return "\n".join(server.output.read_text(encoding="utf-8", errors="replace").splitlines())


def assert_death_is_reported(instance: Airflow, server: Server, words: str) -> None:
    at_death = written_by(server)
    with pytest.raises(ServerDiedError) as wait:
        wait_until(lambda: None, "nothing")
    with pytest.raises(ServerDiedError) as request:
        instance.unhealthy()
    server.expect_end()
    # Its children may write more after its death.
    written = written_by(server)
    for error in (wait, request):
        beginning, _, lines = str(error.value).partition("; its last lines:\n")
        assert beginning == words
        assert lines
        assert written.rfind(lines) >= max(len(at_death) - len(lines), 0)
