"""Which task instance follows a job at present."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.run.job_ids import derived_id, numbered
from airflow_provider_rayagent.ui.following_tasks import following_tasks_of
from airflow_provider_rayagent.ui.task_links import TaskKey

SENSOR = TaskKey("nightly", "run", "follow", -1)
PLUGIN = TaskKey("nightly", "run", "run_plugin", 2)
DERIVED = derived_id([str(part) for part in PLUGIN], "production")
OTHERS = [TaskKey("nightly", "run", f"other_{number}", -1) for number in range(3)]
FOLLOWERS = following_tasks_of(
    [
        (SENSOR, {"rayagent_conn_id": "ray_a", "job_id": "train-1"}),
        (PLUGIN, {"rayagent_conn_id": "ray_a", "job_id": None}),
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
    assert FOLLOWERS.of("ray_a", [job_id], "production") == ({job_id: [expected]} if expected else {})


@pytest.mark.parametrize(
    ("connection", "job_ids", "namespace"),
    [("ray_b", ["train-1", DERIVED], "production"), ("ray_a", [DERIVED], "staging")],
)
def test_a_job_behind_another_connection_or_of_another_airflow_is_not_followed(
    connection: str, job_ids: list[str], namespace: str
) -> None:
    assert FOLLOWERS.of(connection, job_ids, namespace) == {}
