"""What is counted, and that nothing is while Airflow's metrics are off."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_rayagent.metrics import names, stats
from airflow_provider_rayagent.metrics.job_metrics import JobMetrics, seconds_since_end, status_of
from airflow_provider_rayagent.services.jobs import JobStatus
from airflow_provider_rayagent.tail.end import End
from tests.unit.support import items_of


def test_every_end_of_a_task_has_a_status() -> None:
    ended = [{"status": status.value} for status in JobStatus if status.is_terminal] + [{"status": "NEW"}]
    found = [status_of(End.JOB_ENDED, job) for job in ended]
    found += [status_of(end, None) for end in (*End, None) if end not in (End.JOB_ENDED, End.CHECKED_ONCE)]
    assert Counter(found) == Counter(names.VALUES["status"])


@pytest.mark.parametrize(
    ("job", "delay"),
    [
        ({"end_time": 7_000}, 3.0),
        ({"end_time": 12_000}, 0.0),
        ({"end_time": None}, None),
        ({"end_time": "7000"}, None),
        ({}, None),
    ],
)
def test_the_delay_of_an_end_is_never_negative(job: dict[str, Any], delay: float | None) -> None:
    assert seconds_since_end(job, 10.0) == delay


@pytest.mark.parametrize("option", stats.OPTIONS)
def test_every_backend_of_airflow_turns_metrics_on(option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not stats.is_on()
    monkeypatch.setenv(f"AIRFLOW__METRICS__{option.upper()}", "True")
    assert stats.is_on()


def test_a_tag_has_only_characters_that_every_backend_accepts() -> None:
    assert stats.tag_value("a:b#c/d,e=f!") == "a_b_c_d_e_f_"
    assert len(stats.tag_value("x" * 250)) == stats.MAX_TAG


def test_nothing_is_computed_while_metrics_are_off(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Any:
        raise AssertionError

    monkeypatch.setattr(stats, "_send", fail)
    follower: Any = SimpleNamespace()  # has nothing to read
    metrics = JobMetrics("rayagent_default", "worker")
    with metrics.following(follower):
        metrics.forwarded(follower, map(fail, items_of("a")))
    metrics.ended(End.JOB_ENDED, {"status": "SUCCEEDED"})
