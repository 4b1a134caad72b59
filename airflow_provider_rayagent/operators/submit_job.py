"""The operator that submits a job; its public name is in ``operators.rayagent``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_rayagent.errors.service_errors import preparation
from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.services.jobs import MAX_ENTRYPOINT
from airflow_provider_rayagent.services.validation import json_object, validate_text
from airflow_provider_rayagent.tasks.env_vars import EnvVars, validate_names
from airflow_provider_rayagent.tasks.starting import JobStartingOperator
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from os import PathLike

    import jinja2
    from airflow.sdk import Context

    from airflow_provider_rayagent.lineage.job_env_vars import LineageEnvVars
    from airflow_provider_rayagent.run.job_start import JobWork


class RayAgentSubmitJobOperator(JobStartingOperator):
    """Submit a job to Ray's own dashboard, and follow the job to its end.

    The connection's *Service* must be ``ray``; a local agent works too.

    .. code-block:: python

        from airflow.sdk import DAG

        from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator

        with DAG("train", schedule="@daily"):
            RayAgentSubmitJobOperator(
                task_id="train",
                entrypoint="python train.py",
                working_dir="jobs/train",
                entrypoint_num_cpus=1,
                rayagent_conn_id="rayagent_default",
            )

    The job id is derived from the DAG, the run, the task, the map index and the iteration of a loop, and Ray starts at
    most one job with an id. So a retry, a cleared task or a task whose worker died finds its job again instead of
    starting a second one:

    - a job that is running or PENDING: the task attaches to it;
    - a job that has succeeded: the task reuses its result (see ``if_succeeded``);
    - a job that has failed or was stopped: the task submits a new job, whose id has a numeric suffix.

    The job has the environment variables ``RAYAGENT_RESUME_KEY``, the same for all tries until a job has succeeded, and
    ``RAYAGENT_PREVIOUS_JOB_ID``, for programs that continue where an earlier job stopped.

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
        (templated)
    :param entrypoint_num_gpus: GPUs to reserve for it. (templated)
    :param entrypoint_memory: bytes of memory to reserve for it. (templated)
    :param entrypoint_resources: custom resources to reserve for it. (templated)
    :param entrypoint_label_selector: labels that its node must have, such as ``{"ray.io/accelerator-type": "H100"}``;
        Ray 2.54 or newer. The job is PENDING while no node has them. (templated)
    :param wait_for_scale_up: submit a job whose command fits on no present node, since the cluster adds larger ones on
        demand; otherwise the task fails.
    :param openlineage_inject_parent_job_info: tell the program of the job, in environment variables, that the run of
        this task is the parent of its own OpenLineage runs; requires ``apache-airflow-providers-openlineage``.
    :param openlineage_inject_transport_info: tell it where this Airflow sends its OpenLineage events, with the
        credentials for that.

    The other arguments are those of :class:`.JobStartingOperator` and :class:`.JobFollowingOperator`, and Airflow's
    ``BaseOperator``.
    """

    template_fields: Sequence[str] = (
        "entrypoint",
        "working_dir",
        "runtime_env",
        "metadata",
        "entrypoint_num_cpus",
        "entrypoint_num_gpus",
        "entrypoint_memory",
        "entrypoint_resources",
        "entrypoint_label_selector",
        "job_id",
        "rayagent_conn_id",
        "cluster",
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
        entrypoint_num_cpus: float | str | None = None,
        entrypoint_num_gpus: float | str | None = None,
        entrypoint_memory: int | str | None = None,
        entrypoint_resources: Mapping[str, float | str] | None = None,
        entrypoint_label_selector: Mapping[str, str] | None = None,
        wait_for_scale_up: bool = False,
        openlineage_inject_parent_job_info: bool = False,
        openlineage_inject_transport_info: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Before runtime_env is assigned: its setter uses both.
        self._is_rendered = False
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
        self.entrypoint_label_selector = entrypoint_label_selector
        self.wait_for_scale_up = wait_for_scale_up
        self.openlineage_inject_parent_job_info = openlineage_inject_parent_job_info
        self.openlineage_inject_transport_info = openlineage_inject_transport_info

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Return the operator with some arguments, to be mapped over others."""
        from airflow_provider_rayagent.tasks.mapped_env_vars import HidingPartial

        return HidingPartial.of(super().partial(**kwargs))

    @property
    def runtime_env(self) -> Any:
        """The runtime environment, with ``***`` for the values of its ``env_vars``: Airflow stores and shows it."""
        return self._runtime_env

    @runtime_env.setter
    def runtime_env(self, value: Any) -> None:
        # Of the object as it was passed, for which _do_render_template_fields() looks.
        self._given_runtime_env = id(value)
        # A mapped task gets it as ``partial`` has wrapped it (HiddenRuntimeEnv).
        value = getattr(value, "hidden_runtime_env", value)
        self._env_vars, self._runtime_env = self._env_vars.hide(value, rendered=self._is_rendered)

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        self._is_rendered = True
        if self._given_runtime_env in seen_oids:
            # A value of ``expand`` is data, not a template (``MappedOperator.render_template_fields``).
            seen_oids.add(id(self._runtime_env))
            self._env_vars = self._env_vars.as_rendered()
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)

    def _work(self, context: Context) -> JobWork:
        from airflow_provider_rayagent.run.job_origin import check_origin
        from airflow_provider_rayagent.run.job_start import JobWork

        amounts = {
            "num_gpus": _number(self.entrypoint_num_gpus),
            "num_cpus": _number(self.entrypoint_num_cpus),
            "memory_bytes": _number(self.entrypoint_memory),
        }
        return JobWork(
            request=lambda job_id, resume_env_vars: self._submit(context, job_id, resume_env_vars),
            # Not before the request, which finds the secrets to redact.
            describe=lambda: sanitize(
                " ".join(self.entrypoint.split()), self.hook.config.redact, length=MAX_ENTRYPOINT
            ),
            check=lambda job_id, job: check_origin(job, job_id, context),
            required={name: amount for name, amount in amounts.items() if amount},
            # Ray starts one job with an id.
            is_repeatable=True,
        )

    def _submit(self, context: Context, job_id: str, resume_env_vars: Mapping[str, str]) -> str:
        from airflow_provider_rayagent.run.job_origin import WAITS, origin_env_vars, origin_metadata
        from airflow_provider_rayagent.run.trace_context import trace_env_vars
        from airflow_provider_rayagent.services.job_secrets import masked_names

        with preparation():
            metadata = _with_text(json_object(self.metadata or {}, "metadata"))
            labels = json_object(self.entrypoint_label_selector or {}, "entrypoint_label_selector")
            secrets = self._environment(context)
            trace = trace_env_vars(secrets)
            lineage = self._lineage_env_vars(context, secrets)
            secrets = {**lineage.secret, **secrets}
            runtime_env = self._complete_runtime_env(context, job_id)
        runtime_env["env_vars"] = {
            **origin_env_vars(context),
            **resume_env_vars,
            **trace,
            **lineage.plain,
            **secrets,
        }
        # The author's metadata must not replace these: check_origin() and secrets_of() rely on them.
        metadata |= origin_metadata(context) | masked_names(secrets) | {WAITS: str(bool(self.wait))}
        # The upload can take minutes, in which the task may be killed.
        self._raise_if_killed(job_id)
        return self.hook.submit_job(
            self.entrypoint,
            job_id=job_id,
            runtime_env=runtime_env,
            metadata=metadata,
            entrypoint_num_cpus=_number(self.entrypoint_num_cpus),
            entrypoint_num_gpus=_number(self.entrypoint_num_gpus),
            entrypoint_memory=_number(self.entrypoint_memory),
            entrypoint_resources=_numbers(self.entrypoint_resources),
            entrypoint_label_selector=_with_text(labels) or None,
            wait_for_scale_up=self.wait_for_scale_up,
        )

    def _complete_runtime_env(self, context: Context, job_id: str) -> dict[str, Any]:  # noqa: ARG002 - for @task.ray
        """Return the runtime environment with the working directory, after uploading that."""
        runtime_env = json_object(self.runtime_env or {}, "runtime_env")
        if self.working_dir is None:
            return runtime_env
        if runtime_env.get("working_dir") is not None:
            raise RayAgentInputError("working_dir and runtime_env['working_dir'] are both set: set one of them.")
        runtime_env["working_dir"] = self._working_dir_uri(context, self.working_dir, runtime_env.get("excludes"))
        return runtime_env

    def _working_dir_uri(
        self, context: Context, working_dir: str | PathLike[str], excludes: Sequence[str] | None
    ) -> str:
        from airflow_provider_rayagent.services.package_uri import is_uri, validate_uri
        from airflow_provider_rayagent.working_dir.source import find_working_dir

        working_dir = validate_text(
            os.fspath(working_dir) if isinstance(working_dir, os.PathLike) else working_dir, "working_dir"
        )
        if is_uri(working_dir):
            return validate_uri(working_dir)
        dag_folder = Path(context["dag"].fileloc).parent
        # ``dag.test()`` of older Airflow versions has no bundle.
        bundle = getattr(context["ti"], "bundle_instance", None)
        root = Path(bundle.path) if bundle is not None else dag_folder
        found = find_working_dir(working_dir, dag_folder=dag_folder, root=root)
        if found == dag_folder.resolve():
            text = (
                "The working_dir is the folder of the DAG files, %s: all that is in it is uploaded, again after each "
                "change of a DAG. Put the program into a folder of its own, such as jobs/train."
            )
            self.log.warning(coded(Code.WORKING_DIR, text), found)
        return self.hook.upload_working_dir(found, root=root, excludes=excludes)

    def _environment(self, context: Context) -> dict[str, str]:
        """Return the environment variables of the author, after masking their values.

        A process that only follows the job learns them from its details (:mod:`.job_secrets`).
        """
        # A variable is text, also in a DAG with ``render_template_as_native_obj``, where "8" becomes a number.
        dag = self.get_dag()
        jinja_env = self.get_template_env() if dag is None else dag.get_template_env(force_sandboxed=True)
        env_vars = self._env_vars.values(self.runtime_env, lambda text: jinja_env.from_string(text).render(context))
        self._mask(env_vars)
        return env_vars

    def _lineage_env_vars(self, context: Context, env_vars: Mapping[str, str]) -> LineageEnvVars:
        """Return what OpenLineage has for the job beside the variables of the author, after masking its secrets."""
        from airflow_provider_rayagent.lineage.job_env_vars import lineage_env_vars

        found = lineage_env_vars(
            context["ti"],
            env_vars,
            parent=self.openlineage_inject_parent_job_info,
            transport=self.openlineage_inject_transport_info,
            log=self.log,
        )
        self._mask(found.secret)
        return found

    def _mask(self, env_vars: Mapping[str, str]) -> list[str]:
        """Mask the values of variables; return the texts that are masked."""
        from airflow.sdk.log import mask_secret

        from airflow_provider_rayagent.services.job_secrets import secret_values

        hidden = secret_values(env_vars)
        # For what this provider writes and stores; Airflow's masker is for all else in the task log.
        self.hook.config.redact.add(hidden)
        for value in hidden:
            mask_secret(value)
        return hidden

    def _expected_job(self) -> Mapping[str, Any]:
        return {"entrypoint": self.entrypoint, "metadata": self.metadata}


def _number(value: Any) -> Any:
    """Return the number in the text that a template became; anything else as it is."""
    if isinstance(value, str):
        # int first: Ray takes an amount of memory only as an integer.
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value)
    return value


def _numbers(values: Any) -> Any:
    return {name: _number(value) for name, value in values.items()} if isinstance(values, Mapping) else values


def _with_text(values: dict[str, Any]) -> dict[str, Any]:
    """Return an object with text for each number, which the text becomes with ``render_template_as_native_obj``."""
    return {name: str(value) if isinstance(value, (int, float)) else value for name, value in values.items()}
