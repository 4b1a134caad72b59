"""Airflow's metrics, sent to a real StatsD listener."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.stack.statsd import statsd_listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.stack.statsd import StatsdListener


@pytest.fixture
def statsd(monkeypatch: pytest.MonkeyPatch) -> Iterator[StatsdListener]:
    """A listener to which this process sends its metrics."""
    with statsd_listener() as listener:
        for name, value in listener.settings.items():
            monkeypatch.setenv(name, value)
        initialize_metrics()
        yield listener
        monkeypatch.undo()
        initialize_metrics()


def initialize_metrics() -> None:
    """Make Airflow read its configuration of metrics, as it does at the start of a process."""
    from airflow.sdk.serde import _register

    _register()  # type: ignore[no-untyped-call]
