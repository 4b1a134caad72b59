"""Apply a sensor's ``soft_fail`` and ``never_fail``, in a worker and deferred."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    TaskDeferralError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context


class SkippingMixin:
    """Skip a sensor's task in the cases of ``BaseSensorOperator.execute``, also when deferred, and log the reason.

    Airflow does not log it. List this class before ``BaseSensorOperator``.
    """

    soft_fail: bool
    never_fail: bool
    log: Any

    # For type checkers only: this class precedes the one that has the method, and would hide it.
    if TYPE_CHECKING:

        def _stop_at_timeout(self) -> None:
            """Stop what runs when the ``execution_timeout`` has expired."""

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after a deferral."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)  # type: ignore[misc]
        except TaskDeferralError as error:
            # BaseSensorOperator.resume_execution skips with soft_fail, too, which covers no crash in a worker.
            if self.never_fail:
                raise AirflowSkipException("Skipping due to never_fail is set to True.") from error
            raise

    @contextmanager
    def _handle_errors(self) -> Iterator[None]:
        try:
            yield
        # It ends a poke and is an Exception, too.
        except AirflowRescheduleException:
            raise
        except AirflowSkipException as skip:
            self._log_reason(skip.__cause__)
            raise
        # AirflowTaskTimeout is a BaseException, as is TaskDeferred, which must pass.
        except (Exception, AirflowTaskTimeout) as error:
            name = "soft_fail" if self.soft_fail else "never_fail"
            soft = self.soft_fail and isinstance(
                error, (AirflowSensorTimeout, AirflowTaskTimeout, AirflowFailException)
            )
            if isinstance(error, AirflowTaskTimeout):
                self._stop_at_timeout()
            if not (soft or self.never_fail):
                raise
            self._log_reason(error)
            raise AirflowSkipException(f"Skipping due to {name} is set to True.") from error

    def _log_reason(self, error: BaseException | None) -> None:
        if error is not None:
            self.log.error("%s", error)
