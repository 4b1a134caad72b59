"""A task that does not notice its ``execution_timeout``, as if native code had lost the exception."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Param
from airflow.sdk.exceptions import AirflowTaskTimeout

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator


class StuckOperator(RayAgentSubmitJobOperator):
    """Goes on after the timeout, until its process is ended."""

    def _follow_in_worker(self, *arguments: Any) -> Any:
        try:
            return super()._follow_in_worker(*arguments)
        except AirflowTaskTimeout:
            while not self._killed.is_set():
                time.sleep(0.1)
            raise


with DAG("system_stuck", schedule=None, params={"conn_id": Param("rayagent_default", type="string")}):
    StuckOperator(
        task_id="stuck",
        rayagent_conn_id="{{ params.conn_id }}",
        entrypoint="sleep 3600",
        poll_interval=1,
        execution_timeout=timedelta(seconds=20),
        retries=0,
    )
