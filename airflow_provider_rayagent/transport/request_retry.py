"""Retry policy of requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import RayAgentHTTPError
from airflow_provider_rayagent.errors.transience import is_transient, may_have_been_received
from airflow_provider_rayagent.tail.backoff import pause_after

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import Call

MAX_TRIES = 4
FIRST_PAUSE = 0.5
"""Nominal seconds before the second attempt; doubled for each further one, and jittered."""
MAX_PAUSE = 8.0
MAX_RETRY_AFTER = 30.0
"""Maximum seconds to wait for a ``Retry-After`` header."""


def may_retry(call: Call, error: BaseException) -> bool:
    """Whether ``call`` may be sent again after ``error``.

    A POST without a unique id is sent again only if it cannot have been received.
    """
    return is_transient(error) and (call.idempotent or not may_have_been_received(error))


def has_succeeded(call: Call, status: int, attempt: int) -> bool:
    """Whether an error status means that an earlier attempt, whose response was lost, has done what ``call`` requests.

    :param attempt: the number of this attempt, from 1.
    """
    return call.method == "DELETE" and status == 404 and attempt > 1


def pause(tries: int, error: BaseException, jitter: float) -> float:
    """Return the seconds to wait before the next attempt.

    :param tries: number of attempts so far, at least 1.
    :param jitter: a number in [0, 1).
    """
    if isinstance(error, RayAgentHTTPError) and error.retry_after is not None:
        return min(error.retry_after, MAX_RETRY_AFTER)
    return pause_after(tries, FIRST_PAUSE, MAX_PAUSE, jitter)
