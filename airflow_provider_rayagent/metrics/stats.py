"""Send values to Airflow's metrics, if they are on."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from airflow_provider_rayagent.metrics.names import Metric

OPTIONS = ("statsd_on", "statsd_datadog_enabled", "otel_on")
"""Options of Airflow's section ``[metrics]`` that turn its metrics on."""
MAX_TAG = 80
"""Characters of a tag's value: Airflow drops a metric of more than 250 characters, StatsD tags included."""
TEAM_VARIABLE = "AIRFLOW_CTX_TEAM_NAME"
"""The variable in which Airflow tells a task's process its team (``airflow/sdk/execution_time/context.py``)."""

log = logging.getLogger(__name__)


def is_on() -> bool:
    """Whether Airflow's metrics are on."""
    from airflow.sdk.configuration import conf

    return any(conf.getboolean("metrics", option, fallback=False) for option in OPTIONS)


def tag_value(value: str) -> str:
    """Return ``value`` with the characters that every metrics backend of Airflow accepts, and truncated."""
    from airflow.sdk.observability.stats import normalize_name_for_stats

    # Its warning would be in the task log, once for each value.
    return normalize_name_for_stats(value, log_warning=False)[:MAX_TAG]


def team_of_task() -> str | None:
    """Return the team of the task that this process runs, ``None`` in a triggerer and without teams."""
    return os.environ.get(TEAM_VARIABLE)


def incr(metric: Metric, count: int, tags: Mapping[str, str]) -> None:
    """Add to a counter; zero is not sent."""
    if count:
        _send(lambda stats: stats.incr(metric.name, count, tags=dict(tags)))


def gauge(metric: Metric, value: int, tags: Mapping[str, str]) -> None:
    """Set a gauge."""
    _send(lambda stats: stats.gauge(metric.name, value, tags=dict(tags)))


def timing(metric: Metric, seconds: float, tags: Mapping[str, str]) -> None:
    """Send a duration."""
    # Airflow takes a plain number as milliseconds (``timing`` in ``airflow/sdk/_shared/observability/metrics``).
    _send(lambda stats: stats.timing(metric.name, seconds * 1000, tags=dict(tags)))


def _send(call: Callable[[Any], None]) -> None:
    try:
        # A triggerer initializes Airflow's metrics for itself only (airflow/_shared), not those for providers
        # (airflow/sdk/_shared), which would be silently discarded; importing this module initializes the latter.
        import airflow.sdk.serde  # noqa: F401
        from airflow.sdk.observability.stats import Stats

        call(Stats)
    except Exception as error:  # noqa: BLE001 - no error here may end the task
        log.debug("Failed to send a metric: %s", error)
