"""Read columns of the rows of Ray's state API, whatever their type. Pure.

The columns are those of ``util/state/common.py`` in Ray. Their values come from the job's own code as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.services.cluster_resources import amount_of
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Mapping

    Row = Mapping[str, Any]


def pid_of(row: Row, column: str = "pid") -> int | None:
    """Return the id of a process; ``None`` if it is unknown."""
    value = row.get(column)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31 else None


def text_of(row: Row, column: str) -> str:
    """Return a text without what could not be sent back in a request; empty if there is none."""
    value = row.get(column)
    return storable(value) if isinstance(value, str) else ""


def attempt_of(row: Row) -> int:
    """Return the number of a task's attempt, from 0."""
    return int(amount_of(row.get("attempt_number")) or 0)
