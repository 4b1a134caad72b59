"""A watcher that does not wait."""

from __future__ import annotations

import pytest


@pytest.fixture
def fast_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_rayagent.triggers import ended_job_lists, job_watcher, watch_positions

    monkeypatch.setattr(job_watcher, "MIN_POLL_SECONDS", 0.02)
    monkeypatch.setattr(watch_positions, "CONFIRM_POLL_SECONDS", 0.01)
    monkeypatch.setattr(ended_job_lists, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(ended_job_lists, "MAX_PAUSE", 0.1)
    monkeypatch.setattr(ended_job_lists, "MIN_PERMANENT_PAUSE", 0.1)
