"""The operator that runs a plugin's action; its public name is in ``operators.rayagent``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_rayagent.services.plugins import job_id_in
from airflow_provider_rayagent.tasks.starting import JobStartingOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_provider_rayagent.run.job_start import JobWork


class RayAgentRunPluginOperator(JobStartingOperator):
    """Run an action of a plugin as a Ray job, and follow the job to its end.

    The connection's *Service* must be ``agent``.

    .. code-block:: python

        from airflow.sdk import DAG

        from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator

        with DAG("train_plugin", schedule="@daily"):
            RayAgentRunPluginOperator(
                task_id="train",
                lookup="train@1.0",
                action="train",
                action_params={"epochs": 10},
                rayagent_conn_id="rayagent_default",
            )

    The job id is derived from the DAG, the run, the task, the map index and the iteration of a loop. So a retry, a
    cleared task or a task whose worker died finds its job again instead of starting a second one:

    - a job that is running or in the agent's queue: the task attaches to it;
    - a job that has succeeded: the task reuses its result (see ``if_succeeded``);
    - a job that has failed or was stopped: the task starts a new job, whose id has a numeric suffix.

    If the job FAILED, the task fails and is retried (``retries``); if the job was STOPPED, the task fails without a
    retry. The XCom ``job_id`` and the link to the job's page are available before the waiting begins. XCom
    (``return_value``): the final details of the job, as for
    :class:`~airflow_provider_rayagent.sensors.rayagent.RayAgentJobSensor`, and ``result``; with ``wait=False`` the job
    id.

    :param lookup: the plugin release: its id, or ``plugin@version``. (templated)
    :param action: the action of the plugin. (templated)
    :param action_params: parameters of the action: JSON. (``params`` are those of the DAG.) (templated)
    :param requirements: additional Python requirements of the job. (templated)
    :param language: language of the plugin's messages. (templated)

    The other arguments are those of :class:`.JobStartingOperator` and :class:`.JobFollowingOperator`, and Airflow's
    ``BaseOperator``.
    """

    template_fields: Sequence[str] = (
        "lookup",
        "action",
        "action_params",
        "requirements",
        "language",
        "job_id",
        "rayagent_conn_id",
        "cluster",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"action_params": "json", "requirements": "json"}

    def __init__(
        self,
        *,
        lookup: str,
        action: str,
        action_params: Mapping[str, Any] | None = None,
        requirements: Sequence[str] | None = None,
        language: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lookup = lookup
        self.action = action
        self.action_params = action_params
        self.requirements = requirements
        self.language = language

    def _work(self, context: Context) -> JobWork:  # noqa: ARG002
        from airflow_provider_rayagent.run.job_start import JobWork

        return JobWork(self._request, lambda: f"{self.action} of {self.lookup}")

    def _request(self, job_id: str, resume_env_vars: Mapping[str, str]) -> str:  # noqa: ARG002
        response = self.hook.run_plugin_release(
            self.lookup,
            self.action,
            self.action_params,
            requirements=self.requirements,
            job_id=job_id,
            language=self.language,
        )
        # The form of the response is not documented, and the agent may have chosen another id.
        return job_id_in(response, job_id) or job_id
