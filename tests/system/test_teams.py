"""An Airflow with teams: a task uses its team's connections and no other team's, and its metrics name the team."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest

from airflow_provider_rayagent.metrics import names
from tests.scripted import Job, ScriptedAgent, SetStatus, Sleep
from tests.stack.airflow import airflow
from tests.stack.postgres import postgres
from tests.stack.statsd import statsd_listener
from tests.stack.teams import team_settings
from tests.stack.triggerers import triggerers_of
from tests.stack.watch import wait_until
from tests.system.support import Task, needs_airflow_3_3

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.statsd import StatsdListener

pytestmark = [
    pytest.mark.each_airflow,
    pytest.mark.full,
    pytest.mark.timeout(1800),
    needs_airflow_3_3("has no teams"),
]

RED, BLUE = "red_team", "blue_team"
CONNECTIONS = {"ray_red": RED, "ray_all": None}
"""The connections, with the team that each belongs to."""
MODES = ("worker", "deferred")
DAG_FILE = """
from airflow.sdk import DAG
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

with DAG("of_{team}", schedule=None):
    RayAgentJobSensor(task_id="worker", job_id="worker", rayagent_conn_id="ray_red", deferrable=False)
    # A triggerer of Airflow finds no connection of a team (https://github.com/apache/airflow/pull/67919).
    RayAgentJobSensor(task_id="deferred", job_id="deferred", rayagent_conn_id="ray_all", deferrable=True)
"""


class Teams(NamedTuple):
    """What came of a run of each team's DAG."""

    tasks: dict[tuple[str, str], Task]
    statsd: StatsdListener


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teams]:
    folder = tmp_path_factory.mktemp("teams")
    jobs = [Job("a line\n", "RUNNING", mode, timeline=[Sleep(15), SetStatus("SUCCEEDED")]) for mode in MODES]
    with postgres() as database, statsd_listener() as statsd, ScriptedAgent(*jobs) as agent:
        settings = {**team_settings(folder, (RED, BLUE), DAG_FILE), **statsd.settings}
        url = database.create_database("airflow")
        with airflow(folder, database=url, settings=settings, teams=(RED, BLUE)) as running:
            for conn_id, of_team in CONNECTIONS.items():
                connection = {"connection_id": conn_id, "conn_type": "rayagent", "host": agent.url}
                running.call("POST", "connections", {**connection, "team_name": of_team})
            with triggerers_of(running) as triggerers:
                for team in (RED, BLUE):
                    triggerers.start("--team-name", team)
                tasks = {}
                for team in (RED, BLUE):
                    run_id = running.trigger(f"of_{team}")
                    for mode in MODES:
                        tasks[team, mode] = Task(running, f"of_{team}", run_id, mode)
                for task in tasks.values():
                    task.wait()
                yield Teams(tasks, statsd)


@pytest.mark.parametrize("mode", MODES)
def test_a_task_uses_its_teams_connection_and_its_metrics_name_the_team(mode: str, teams: Teams) -> None:
    task = teams.tasks[RED, mode]
    task.assert_ends("success")
    assert task.forwarded() + task.deferred() == ["a line"]
    tags = {"conn_id": "ray_red" if mode == "worker" else "ray_all", "mode": mode, "team_name": RED}
    wait_until(lambda: teams.statsd.values(names.LINE_LAG.name, **tags) or None, f"no lines of {tags}")
    for metric in names.METRICS:
        assert all("team_name" in sample.tags for sample in teams.statsd.samples(metric.name))


def test_a_task_of_another_team_does_not_get_the_connection(teams: Teams) -> None:
    task = teams.tasks[BLUE, "worker"]
    task.assert_ends("failed")
    assert "ray_red" in task.text()
    assert task.forwarded() == []
