"""Which task instance a job belongs to."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.run.job_ids import derived_id, numbered
from airflow_provider_rayagent.services.validation import validate_job_id
from airflow_provider_rayagent.ui.task_jobs import StoredJob, belongs_to
from airflow_provider_rayagent.ui.task_links import TaskKey, named_in, task_of
from airflow_provider_rayagent.ui.user_connections import ViewedService

KEY = TaskKey("nightly", "scheduled__2026-01-31", "train", -1)
METADATA = {
    "airflow_dag_id": KEY.dag_id,
    "airflow_run_id": KEY.run_id,
    "airflow_task_id": KEY.task_id,
    "airflow_map_index": "-1",
    "airflow_owner": "ada",
}
PARTS = [str(part) for part in KEY]
OWN = derived_id(PARTS, "production")


def task_job(job_id: str, *, is_proven: bool = False) -> StoredJob:
    return StoredJob(KEY, "running", ViewedService("rayagent_default"), validate_job_id(job_id), is_proven)


@pytest.mark.parametrize("job_id", [OWN, numbered(OWN, 2), derived_id(PARTS), "my-own-id"])
def test_a_job_that_names_the_task_instance_belongs_to_it(job_id: str) -> None:
    assert task_of(job_id, METADATA, "production") == KEY


def test_a_job_of_another_airflow_with_the_same_dag_does_not() -> None:
    assert task_of(derived_id(PARTS, "staging"), METADATA, "production") is None


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        "text",
        {},
        {**METADATA, "airflow_map_index": "x"},
        {**METADATA, "airflow_task_id": ""},
        {name: value for name, value in METADATA.items() if name != "airflow_run_id"},
    ],
)
def test_other_metadata_names_no_task_instance(metadata: object) -> None:
    assert named_in(metadata) is None


def test_a_job_is_followed_by_the_task_or_has_to_be_derived_from_it_or_to_name_its_dag() -> None:
    assert belongs_to(task_job("any", is_proven=True), {}, None)
    assert belongs_to(task_job(numbered(OWN, 3)), {}, "production")
    assert belongs_to(task_job("any"), {"metadata": METADATA}, "production")
    assert belongs_to(task_job("any"), {"metadata": {**METADATA, "airflow_task_id": "other"}}, "production")
    assert not belongs_to(task_job("any"), {"metadata": {**METADATA, "airflow_dag_id": "other"}}, "production")
    assert not belongs_to(task_job(OWN), {}, "staging")


@pytest.mark.parametrize("character", ["\x00", "\ud800"])
def test_metadata_that_no_database_takes_names_a_task_instance_that_does_not_exist(character: str) -> None:
    key = named_in({**METADATA, "airflow_dag_id": f"night{character}ly"})
    assert key is not None
    assert key.dag_id == "night\ufffdly"
