"""What a task stores for its later tries and pokes, in its task state store (Airflow 3.3 and newer)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class TaskStateStore:
    """The task state store of one task instance."""

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    @property
    def exists(self) -> bool:
        """Whether this Airflow has a store."""
        return self._store is not None

    def get(self, key: str) -> Any:
        """Return a value, ``None`` if there is none."""
        return self._store.get(key) if self.exists else None

    def set(self, key: str, value: Any) -> None:
        """Store a value of JSON primitives."""
        if self.exists:
            self._store.set(key, storable(value))

    def try_set(self, key: str, value: Any) -> None:
        """Store a value of JSON primitives if Airflow permits it."""
        from airflow.sdk.exceptions import AirflowRuntimeError

        try:
            self.set(key, value)
        except AirflowRuntimeError:
            # Airflow lets a task that was cleared store nothing: it has a new one in its place by then.
            log.debug("%s is not stored: %s.", key, value, exc_info=True)
