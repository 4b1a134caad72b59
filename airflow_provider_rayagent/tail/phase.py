"""The states of a tail, and their transitions::

    FOLLOWING   the job is not known to have ended
                -> DRAINING   its status is terminal, and its log is forwarded
                -> CLOSING    its status is terminal, and its log is not forwarded;
                              gave up: job unknown or not started, agent unreachable, deadline; or checked once
    DRAINING    the job has ended; the rest of its log is read, within the limits of :mod:`draining`
                -> CLOSING    the log was read to its end, or its end is unavailable
    CLOSING     open connections are closed, then the tail finishes

The tail never returns to an earlier state. In each state, at most one stream and one response with the whole log are
open.
"""

from __future__ import annotations

from enum import Enum


class Phase(Enum):
    """State of a tail."""

    FOLLOWING = "following"
    DRAINING = "draining"
    CLOSING = "closing"


class Completeness(Enum):
    """How much of an ended job's log was read."""

    PENDING = "pending"
    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    """The end of the log is unavailable."""
