"""Why a tail ended. In its own module, since every DAG file imports it."""

from __future__ import annotations

from enum import Enum


class End(str, Enum):
    """Why a tail ended."""

    # A trigger's event has these values, from which the worker makes the member again (``Outcome`` in ``triggers``).
    JOB_ENDED = "job ended"
    JOB_MISSING = "job missing"
    CLUSTER_GONE = "cluster gone"
    NOT_STARTED = "not started"
    AGENT_UNREACHABLE = "agent unreachable"
    TIMED_OUT = "timed out"
    STALLED = "stalled"
    CHECKED_ONCE = "checked once"
