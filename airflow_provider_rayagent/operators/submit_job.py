"""The operator that submits a job; its public name is in ``operators.rayagent``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_rayagent.client.jobs import MAX_ENTRYPOINT
from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.tasks.env_vars import EnvVars, validate_names
from airflow_provider_rayagent.tasks.starting import RayAgentJobStartingOperator
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context


class RayAgentSubmitJobOperator(RayAgentJobStartingOperator):
    """Submit a job to Ray's own dashboard, and follow the job to its end.

    The connection's *Service* must be ``ray``; a local agent works too.

    The job id is derived from the DAG, the run, the task, the map index and the iteration of a loop, and Ray starts at
    most one job with an id. So a retry, a cleared task or a task whose worker died finds its job again instead of
    starting a second one:

    - a job that is running or PENDING: the task attaches to it;
    - a job that has succeeded: the task reuses its result (see ``if_succeeded``);
    - a job that has failed or was stopped: the task submits a new job, whose id has a numeric suffix.

    If the job FAILED, the task fails and is retried (``retries``); if the job was STOPPED, the task fails without a
    retry. The XCom ``job_id`` and the link to the job's page are available before the waiting begins. XCom
    (``return_value``): the final details of the job, as for
    :class:`~airflow_provider_rayagent.sensors.rayagent.RayAgentJobSensor`, and ``result``; with ``wait=False`` the job
    id.

    :param entrypoint: shell command that runs on one node of the cluster. (templated)
    :param working_dir: the folder in which it runs: a folder or zip file beside the DAG file, which is uploaded unless
        the cluster has it, or a URI that Ray downloads. (templated)
    :param runtime_env: Ray's runtime environment: JSON. The values of its ``env_vars`` are masked in the task log and
        in the rendered template. (templated)
    :param env_from_variables: further environment variables, each with the key of the Airflow variable for its value.
    :param env_from_connections: further environment variables, each with the id of the Airflow connection whose URI is
        its value.
    :param metadata: strings that Ray shows with the job, in addition to the DAG, the run, the task, the map index, the
        try and the owner. (templated)
    :param entrypoint_num_cpus: CPUs to reserve for the command itself, in addition to those of its Ray tasks.
    :param entrypoint_num_gpus: GPUs to reserve for it.
    :param entrypoint_memory: bytes of memory to reserve for it.
    :param entrypoint_resources: custom resources to reserve for it.
    :param wait_for_scale_up: submit a job whose command fits on no present node, since the cluster adds larger ones on
        demand; otherwise the task fails.

    The other arguments are those of :class:`~airflow_provider_rayagent.tasks.starting.RayAgentJobStartingOperator`.
    """

    template_fields: Sequence[str] = (
        "entrypoint",
        "working_dir",
        "runtime_env",
        "metadata",
        "job_id",
        "rayagent_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "entrypoint": "bash",
        "runtime_env": "json",
        "metadata": "json",
    }

    def __init__(
        self,
        *,
        entrypoint: str,
        working_dir: str | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        env_from_variables: Mapping[str, str] | None = None,
        env_from_connections: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
        entrypoint_num_cpus: float | None = None,
        entrypoint_num_gpus: float | None = None,
        entrypoint_memory: int | None = None,
        entrypoint_resources: Mapping[str, float] | None = None,
        wait_for_scale_up: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._env_vars = EnvVars(
            validate_names(env_from_variables, "env_from_variables"),
            validate_names(env_from_connections, "env_from_connections"),
        )
        self.entrypoint = entrypoint
        self.working_dir = working_dir
        self.runtime_env = runtime_env
        self.env_from_variables = env_from_variables
        self.env_from_connections = env_from_connections
        self.metadata = metadata
        self.entrypoint_num_cpus = entrypoint_num_cpus
        self.entrypoint_num_gpus = entrypoint_num_gpus
        self.entrypoint_memory = entrypoint_memory
        self.entrypoint_resources = entrypoint_resources
        self.wait_for_scale_up = wait_for_scale_up

    @property
    def runtime_env(self) -> Any:
        """The runtime environment, with ``***`` for the values of its ``env_vars``: Airflow stores and shows it."""
        return self._runtime_env

    @runtime_env.setter
    def runtime_env(self, value: Any) -> None:
        self._env_vars, self._runtime_env = self._env_vars.hide(value, rendered=hasattr(self, "_runtime_env"))

    def _check_job(self, context: Context, job_id: str, job: Mapping[str, Any]) -> None:
        from airflow_provider_rayagent.tasks.job_origin import check_origin

        check_origin(job, job_id, context)

    def _request_start(self, context: Context) -> str:
        from airflow_provider_rayagent.client.job_secrets import masked_names
        from airflow_provider_rayagent.tasks.job_origin import origin_env_vars, origin_metadata

        secrets = self._environment(context)
        runtime_env = self._complete_runtime_env(context)
        runtime_env["env_vars"] = {**origin_env_vars(context), **secrets}
        metadata = {**(self.metadata or {}), **origin_metadata(context), **masked_names(secrets)}
        self._raise_if_killed(self.job_id)
        return self.hook.submit_job(
            self.entrypoint,
            job_id=self.job_id,
            runtime_env=runtime_env,
            metadata=metadata,
            entrypoint_num_cpus=self.entrypoint_num_cpus,
            entrypoint_num_gpus=self.entrypoint_num_gpus,
            entrypoint_memory=self.entrypoint_memory,
            entrypoint_resources=self.entrypoint_resources,
            wait_for_scale_up=self.wait_for_scale_up,
        )

    def _required_amounts(self) -> dict[str, float]:
        amounts = {
            "num_gpus": self.entrypoint_num_gpus,
            "num_cpus": self.entrypoint_num_cpus,
            "memory_bytes": self.entrypoint_memory,
        }
        return {name: amount for name, amount in amounts.items() if amount}

    def _started_work(self) -> str:
        return sanitize(" ".join(self.entrypoint.split()), self.hook.config.redact, length=MAX_ENTRYPOINT)

    def _complete_runtime_env(self, context: Context) -> dict[str, Any]:
        """Return the runtime environment with the working directory, after uploading that."""
        runtime_env = dict(self.runtime_env or {})
        if self.working_dir is None:
            return runtime_env
        if runtime_env.get("working_dir") is not None:
            raise RayAgentInputError("working_dir and runtime_env['working_dir'] are both set: set one of them.")
        runtime_env["working_dir"] = self._working_dir_uri(context, self.working_dir)
        return runtime_env

    def _working_dir_uri(self, context: Context, working_dir: str) -> str:
        from airflow_provider_rayagent.client.working_dir import find_working_dir, is_uri, validate_uri

        if is_uri(working_dir):
            return validate_uri(working_dir)
        dag_folder = Path(context["dag"].fileloc).parent
        # ``dag.test()`` of older Airflow versions has no bundle.
        bundle = getattr(context["ti"], "bundle_instance", None)
        root = Path(bundle.path) if bundle is not None else dag_folder
        found = find_working_dir(working_dir, dag_folder=dag_folder, root=root)
        return self.hook.upload_working_dir(found, root=root)

    def _environment(self, context: Context) -> dict[str, str]:
        """Return the environment variables of the author, after masking their values.

        A process that only follows the job learns them from its details (:mod:`.job_secrets`).
        """
        from airflow.sdk.log import mask_secret

        from airflow_provider_rayagent.client.job_secrets import secret_values

        env_vars = self._env_vars.values(self.runtime_env, lambda values: self.render_template(values, context))
        hidden = secret_values(env_vars)
        self.hook.config.redact.add(hidden)
        for value in hidden:
            mask_secret(value)
        return env_vars
