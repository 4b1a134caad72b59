"""What all sensors do with ``mode="reschedule"``."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseSensorOperator

from airflow_provider_rayagent.task_instance import resume_delay


class ReschedulingSensor(BaseSensorOperator):
    """A sensor that is not rescheduled so soon that Airflow's scheduler would fail it."""

    def _get_next_poke_interval(self, *args: Any, **kwargs: Any) -> float:
        interval = super()._get_next_poke_interval(*args, **kwargs)
        # A longer poke_interval is not enough: with exponential_backoff, Airflow shortens the interval to what is left
        # of the timeout.
        return max(interval, resume_delay.seconds_to_resume()) if self.reschedule else interval
