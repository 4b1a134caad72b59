"""A watcher that does not wait."""

from __future__ import annotations

import pytest


@pytest.fixture
def fast_watcher(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_rayagent.triggers import job_watcher
    from airflow_provider_rayagent.watch import job_lists, kept_position

    monkeypatch.setattr(job_watcher, "MIN_POLL_SECONDS", 0.02)
    monkeypatch.setattr(kept_position, "CONFIRM_POLL_SECONDS", 0.01)
    monkeypatch.setattr(job_lists, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(job_lists, "MAX_PAUSE", 0.1)
    monkeypatch.setattr(job_lists, "MIN_PERMANENT_PAUSE", 0.1)
