"""Which task instance follows a job at present."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.run.job_ids import derived_id, numbered
from airflow_provider_rayagent.ui.following_tasks import following_tasks_of
from airflow_provider_rayagent.ui.task_links import TaskKey
from airflow_provider_rayagent.ui.user_connections import ViewedService

SENSOR = TaskKey("nightly", "run", "follow", -1)
IN_CLUSTER = TaskKey("weekly", "run", "follow", -1)
PLUGIN = TaskKey("nightly", "run", "run_plugin", 2)
DERIVED = derived_id([str(part) for part in PLUGIN], "production")
OTHERS = [TaskKey("nightly", "run", f"other_{number}", -1) for number in range(3)]
FOLLOWERS = following_tasks_of(
    [
        (SENSOR, {"rayagent_conn_id": "ray_a", "job_id": "train-1"}),
        (PLUGIN, {"rayagent_conn_id": "ray_a", "job_id": None}),
        (IN_CLUSTER, {"rayagent_conn_id": "ray_a", "job_id": "train-2", "cluster": "one"}),
        (PLUGIN, {"rayagent_conn_id": "ray_a", "job_id": "", "cluster": "two"}),
        (OTHERS[0], {"rayagent_conn_id": "ray_a", "job_id": ["not", "text"]}),
        (OTHERS[1], {"rayagent_conn_id": {"not": "text"}, "job_id": "train-1"}),
        (OTHERS[2], {"job_id": "train-1"}),
    ]
)


@pytest.mark.parametrize(
    ("job_id", "expected"),
    [("train-1", SENSOR), (DERIVED, PLUGIN), (numbered(DERIVED, 12), PLUGIN), ("train-1-2", None), ("other", None)],
)
def test_a_job_is_followed_by_the_task_that_has_its_id_or_derives_it(job_id: str, expected: TaskKey | None) -> None:
    assert FOLLOWERS.of(ViewedService("ray_a"), [job_id], "production") == ({job_id: [expected]} if expected else {})


@pytest.mark.parametrize(
    ("viewed", "job_ids", "namespace"),
    [
        (ViewedService("ray_b"), ["train-1", DERIVED], "production"),
        (ViewedService("ray_a", "one"), ["train-1", DERIVED], "production"),
        (ViewedService("ray_a"), [DERIVED], "staging"),
        (ViewedService("ray_a"), ["train-2"], "production"),
    ],
)
def test_a_job_behind_another_connection_or_cluster_or_of_another_airflow_is_not_followed(
    viewed: ViewedService, job_ids: list[str], namespace: str
) -> None:
    assert FOLLOWERS.of(viewed, job_ids, namespace) == {}


def test_clusters_are_those_that_tasks_name() -> None:
    assert FOLLOWERS.of(ViewedService("ray_a", "one"), ["train-2"], None) == {"train-2": [IN_CLUSTER]}
    assert FOLLOWERS.clusters_by_dag() == {
        "nightly": {ViewedService("ray_a", "two")},
        "weekly": {ViewedService("ray_a", "one")},
    }
