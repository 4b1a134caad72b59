"""Durations in messages."""

from __future__ import annotations

import pytest

from airflow_provider_rayagent.text.durations import shown_duration


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (0.4, "0 seconds"),
        (119, "119 seconds"),
        (120, "2 minutes"),
        (600, "10 minutes"),
        (615, "10.2 minutes"),
        (7_199, "120 minutes"),
        (9_000, "2.5 hours"),
        (200_000, "2.3 days"),
    ],
)
def test_a_duration_is_shown_in_a_unit_that_fits(seconds: float, shown: str) -> None:
    assert shown_duration(seconds) == shown
