"""An operator that starts a job in its own way and lets the trigger follow it."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context


class RetrainOperator(BaseOperator):
    """Start a training job with an id of our choice, and follow it in the triggerer."""

    template_fields: Sequence[str] = ("job_id",)

    def __init__(self, *, job_id: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_id = job_id

    def execute(self, context: Context) -> None:  # noqa: ARG002
        """Start the job, then leave the worker."""
        # Start the job here, by any means: a release pipeline, an API of your own.
        self.defer(
            trigger=RayAgentJobTrigger(job_id=self.job_id, job_missing_timeout=600),
            method_name="conclude",
            timeout=timedelta(hours=6),
        )

    def conclude(self, context: Context, event: dict[str, Any]) -> None:  # noqa: ARG002
        """Be green exactly when the job succeeded."""
        if event["end"] != "job ended":
            raise RuntimeError(f"Lost {self.job_id}: {event['end']}, {event['error']}")
        if event["status"] != "SUCCEEDED":
            raise AirflowFailException(f"{self.job_id} ended as {event['status']}.")


with DAG(
    dag_id="rayagent_own_operator",
    description="Follow a Ray job from an operator of one's own.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={
        "job_id": Param(
            "job-id", type="string", description="Id of the job to start and follow."
        )
    },
):
    RetrainOperator(task_id="retrain", job_id="{{ params.job_id }}")
