"""Base of operators that send a request to the agent and wait for its effect, in a worker or deferred."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk.configuration import conf

from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.services.call import finish
from airflow_provider_rayagent.services.validation import validate_duration
from airflow_provider_rayagent.tasks.deferring import DeferringOperator
from airflow_provider_rayagent.text.codes import Code

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta

    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
    from airflow_provider_rayagent.waits.waiting import OutcomeT, Wait


class RequestWaitingOperator(DeferringOperator):
    """Base of operators that wait.

    :param rayagent_conn_id: the Airflow connection of the agent. (templated)
    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection, such as the name that the
        task which creates the cluster returns. (templated)
    :param timeout: seconds to wait.
    :param poll_interval: seconds between two status checks.
    :param deferrable: wait in the triggerer, without a worker slot; default: ``[operators] default_deferrable``.
    """

    def __init__(
        self,
        *,
        rayagent_conn_id: str = "rayagent_default",
        cluster: str | None = None,
        timeout: timedelta | float = 300.0,
        poll_interval: timedelta | float = 2.0,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.rayagent_conn_id = rayagent_conn_id
        self.cluster = cluster
        self.timeout = validate_duration(timeout, "timeout")
        self.poll_interval = validate_duration(poll_interval, "poll_interval")
        self.deferrable = deferrable

    def on_kill(self) -> None:
        """Stop waiting; the request is not revoked."""
        self._killed.set()

    def _resume_without_event(self, context: Context, kwargs: Mapping[str, Any]) -> NoReturn:  # noqa: ARG002
        raise self._timed_out("No triggerer reported an outcome", code=Code.NO_TRIGGERER)

    def _wait(self, wait: Wait[OutcomeT], client: BlockingServiceClient) -> OutcomeT:
        """Wait until there is an outcome, or ``timeout`` has passed."""

        async def pause(seconds: float) -> bool:
            # Not time.sleep(), so that a kill ends the wait at once.
            return self._killed.wait(seconds)

        until = time.monotonic() + self.timeout
        return finish(wait.until_decided(client, seconds_left=lambda: until - time.monotonic(), pause=pause))

    def _defer_wait(self, make_trigger: Callable[[float | None], BaseTrigger], **kwargs: Any) -> None:
        """Wait in the triggerer; see :meth:`.DeferringOperator._defer`."""
        self.log.info("Deferring: the triggerer waits from here on.")
        self._defer(make_trigger, self._time_limit(), **kwargs)

    def _time_limit(self) -> float:
        """Return the seconds for which to wait."""
        return self._within_execution_timeout(self.timeout) if self.deferrable else self.timeout

    def _timed_out(self, what: str, error: RayAgentError | None = None, code: Code = Code.STILL_THERE) -> RayAgentError:
        last_error = f" Last error: {error.detail}" if error else ""
        return RayAgentError(f"{what} after {self._time_limit():g} seconds.{last_error}", 408, code=code)
