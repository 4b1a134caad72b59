"""Which jobs are orphans, and why others are left."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.run.job_ids import derived_id, numbered
from airflow_provider_rayagent.ui import orphans
from airflow_provider_rayagent.ui.following_tasks import MAX_FOLLOWERS, FollowingTasks
from airflow_provider_rayagent.ui.task_links import TaskKey
from airflow_provider_rayagent.ui.user_connections import ViewedService

if TYPE_CHECKING:
    from collections.abc import Callable

NAMESPACE = "production"
TASK = TaskKey("nightly", "run-7", "train", -1)
PARTS = [str(part) for part in TASK]
JOB_ID = derived_id(PARTS, NAMESPACE)
METADATA = {
    "airflow_dag_id": "nightly",
    "airflow_run_id": "run-7",
    "airflow_task_id": "train",
    "airflow_map_index": "-1",
    "airflow_wait": "True",
}
LONG_AGO = datetime.now(tz=timezone.utc) - timedelta(minutes=11)
STORED = ("failed", LONG_AGO, "failed")


def job(**changes: Any) -> dict[str, Any]:
    return {"submission_id": JOB_ID, "status": "RUNNING", "metadata": METADATA, **changes}


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in METADATA.items() if key != name}


@pytest.fixture
def reason(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str | None]:
    """Return what examines one job; what it returns is ``None`` for one that has ended."""

    def reason_of(
        examined: dict[str, Any],
        *,
        stored: tuple[Any, ...] | None = STORED,
        following: FollowingTasks = FollowingTasks({}, {}),  # noqa: B008 - it is immutable
        namespace: str | None = NAMESPACE,
    ) -> str | None:
        found = {} if stored is None else {TASK: orphans._Stored(*stored)}
        monkeypatch.setattr(orphans, "_stored", lambda _: found)
        monkeypatch.setattr(orphans, "find_following_tasks", lambda *, of_any_class: following)
        monkeypatch.setattr(orphans, "deployment_namespace", lambda: "")
        reasons = [each.left_because for each in orphans.examine([examined], namespace)]
        return reasons[0] if reasons else None

    return reason_of


@pytest.mark.parametrize("status", ["PENDING", "RUNNING", "A_NEW_ONE"])
@pytest.mark.parametrize("job_id", [JOB_ID, numbered(JOB_ID, 3)])
@pytest.mark.parametrize("state", ["failed", "success", "skipped", "upstream_failed", "removed"])
def test_a_job_that_no_try_needs_is_an_orphan(
    status: str, job_id: str, state: str, reason: Callable[..., str | None]
) -> None:
    found = reason(job(status=status, submission_id=job_id), stored=(state, LONG_AGO, "success"))
    assert found == ""


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_job_that_has_ended_is_not_examined(status: str, reason: Callable[..., str | None]) -> None:
    assert reason(job(status=status)) is None


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"metadata": None}, "names no task"),
        ({"metadata": "text"}, "names no task"),
        ({"metadata": without("airflow_run_id")}, "names no task"),
        ({"metadata": {**METADATA, "airflow_map_index": "²"}}, "names no task"),
        ({"submission_id": "of-the-author"}, "its id is not derived"),
        ({"submission_id": None}, "its id is not derived"),
        ({"submission_id": derived_id(PARTS)}, "its id is not derived"),
        ({"submission_id": derived_id(PARTS, "staging")}, "its id is not derived"),
        ({"submission_id": f"{JOB_ID}-x"}, "its id is not derived"),
        ({"metadata": {**METADATA, "airflow_task_id": "other"}}, "its id is not derived"),
        ({"metadata": without("airflow_wait")}, "does not say that it waits"),
        ({"metadata": {**METADATA, "airflow_wait": "False"}}, "does not say that it waits"),
        ({"metadata": {**METADATA, "airflow_wait": True}}, "does not say that it waits"),
    ],
)
def test_a_job_that_may_be_another_ones_is_left(
    changes: dict[str, Any], expected: str, reason: Callable[..., str | None]
) -> None:
    assert expected in str(reason(job(**changes)))


@pytest.mark.parametrize("namespace", [None, ""])
def test_an_airflow_without_a_namespace_has_no_orphans(
    namespace: str | None, reason: Callable[..., str | None]
) -> None:
    examined = job(submission_id=derived_id(PARTS))
    assert "enter a Job namespace" in str(reason(examined, namespace=namespace))


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        (None, "no such task instance"),
        *(
            ((state, LONG_AGO, "failed"), "has not ended")
            for state in (
                None,
                "scheduled",
                "queued",
                "running",
                "deferred",
                "up_for_retry",
                "up_for_reschedule",
                "odd",
            )
        ),
        *((("failed", LONG_AGO, state), "has not ended") for state in ("queued", "running")),
        (("failed", None, "failed"), "less than 10 minutes ago"),
    ],
)
def test_a_job_that_a_try_may_need_is_left(
    stored: tuple[Any, ...] | None, expected: str, reason: Callable[..., str | None]
) -> None:
    assert expected in str(reason(job(), stored=stored))


@pytest.mark.parametrize("minutes", [9, 0, -60])
def test_a_job_whose_task_has_ended_just_now_is_left(minutes: int, reason: Callable[..., str | None]) -> None:
    ended = datetime.now(tz=timezone.utc) - timedelta(minutes=minutes)
    assert "less than 10 minutes ago" in str(reason(job(), stored=("failed", ended, "failed")))


def test_a_job_that_a_task_follows_is_left_whatever_connection_it_has(reason: Callable[..., str | None]) -> None:
    follower = TaskKey("other", "run", "follow", -1)
    following = FollowingTasks({(ViewedService("another", "cluster"), JOB_ID): [follower]}, {})
    assert reason(job(), following=following) == "another task follows it"
    assert reason(job(), following=FollowingTasks({}, {}, MAX_FOLLOWERS)) != ""
    assert reason(job(), following=FollowingTasks({}, {}, MAX_FOLLOWERS - 1)) == ""
