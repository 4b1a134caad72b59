"""The decorator ``@task.ray`` and its operator."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow.sdk.bases.decorator import DecoratedOperator, _TaskDecorator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_provider_rayagent.decorators.function_source import check_function, source_of
from airflow_provider_rayagent.decorators.rayagent_task.plain_json import NotJSONError, check_json, check_length
from airflow_provider_rayagent.decorators.secret_arguments import secret_texts
from airflow_provider_rayagent.exceptions import RayAgentInputError, RayAgentJobFailedError, RayAgentRunFailedError
from airflow_provider_rayagent.operators.submit_job import RayAgentSubmitJobOperator
from airflow_provider_rayagent.render.records import MAX_PROBLEMS
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.task_instance.xcoms import push_xcom
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.text.sanitization import MAX_NOTICE, sanitize
from airflow_provider_rayagent.text.xcom_keys import key_problem_of_job

if TYPE_CHECKING:
    from inspect import BoundArguments
    from types import FunctionType

    from airflow.sdk import Context
    from airflow.sdk.bases.decorator import TaskDecorator

    from airflow_provider_rayagent.errors.service_errors import RayAgentError
    from airflow_provider_rayagent.run.follow_options import FollowOptions
    from airflow_provider_rayagent.run.job_run import JobRun
    from airflow_provider_rayagent.run.job_start import JobWork
    from airflow_provider_rayagent.run.outcome import Outcome
    from airflow_provider_rayagent.services.jobs import JobSummary

__all__ = ["ray_task"]

PACKAGE = "rayagent_task"
"""Name of the Python package that runs the function on the cluster."""
MAX_ARGUMENTS = 1_000_000
"""Characters of the arguments as JSON."""
MAX_RETURN_VALUE = 60_000
"""Characters of the return value as JSON; it is printed, and stored in Airflow's database."""

_SHORT_NAMES = {
    name: f"entrypoint_{name}" for name in ("num_cpus", "num_gpus", "memory", "resources", "label_selector")
}


class RayTaskOperator(DecoratedOperator, RayAgentSubmitJobOperator):
    """Run a function of the DAG file as the driver of a Ray job; see :func:`ray_task`."""

    custom_operator_name = "@task.ray"
    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        "requirements",
        *(name for name in RayAgentSubmitJobOperator.template_fields if name != "entrypoint"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **DecoratedOperator.template_fields_renderers,
        **RayAgentSubmitJobOperator.template_fields_renderers,
    }
    _result_is_expected = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        requirements: Sequence[str] = (),
        # Airflow reads the names that ``default_args`` may have from this signature.
        num_cpus: float | str | None = None,
        num_gpus: float | str | None = None,
        memory: int | str | None = None,
        resources: Mapping[str, float | str] | None = None,
        label_selector: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        given = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "memory": memory,
            "resources": resources,
            "label_selector": label_selector,
        }
        for short, value in given.items():
            if value is not None:
                name = _SHORT_NAMES[short]
                if kwargs.get(name) is not None:
                    raise RayAgentInputError(f"{short} and {name} are both set: set one of them.")
                kwargs[name] = value
        self.requirements = requirements
        super().__init__(
            python_callable=python_callable,
            # The name tells who looks at Ray's list of jobs what runs.
            entrypoint=f"python -m {PACKAGE} {python_callable.__name__}",
            **kwargs,
        )
        self._has_multiple_outputs = self.multiple_outputs

    @property
    def is_async(self) -> bool:
        """Whether Airflow is to await this task; the job awaits a coroutine function itself."""
        return False

    def _run_job(self, context: Context, *, is_resumed: bool = False) -> Any:
        # What is returned then is the job's id.
        self.multiple_outputs = self._has_multiple_outputs and self.wait
        self._bound = self._bind(context)
        self._secrets = self._mask_secrets(self._bound.arguments)
        return super()._run_job(context, is_resumed=is_resumed)

    def _follow_deferred(self, context: Context, run: JobRun) -> Any:
        if not self._secrets:
            return super()._follow_deferred(context, run)
        self.log.info(
            "An argument of %s is secret, which a triggerer could not mask in the job's log: this worker follows the "
            "job. Use env_from_connections or env_from_variables to defer.",
            self.python_callable.__name__,
        )
        return self._follow_in_worker(context, run)

    def _bind(self, context: Context) -> BoundArguments:
        """Return the function's arguments as JSON, with its defaults and what it takes of Airflow's context.

        :raises RayAgentInputError: if one of them is not JSON, or they are too long.
        """
        from inspect import signature

        function, name = signature(self.python_callable), self.python_callable.__name__
        given = function.bind_partial(*self.op_args, **self.op_kwargs).arguments
        values: Mapping[str, Any] = context
        from_airflow = {each: values[each] for each in function.parameters.keys() - given if each in values}
        try:
            bound = function.bind(*self.op_args, **{**from_airflow, **self.op_kwargs})
        except TypeError as error:
            raise RayAgentInputError(
                f"The arguments of {name} do not fit: {error}. A parameter that is named like a variable of Airflow's "
                "context gets its value only if the run has it: ds and others need a logical date. Give it a default."
            ) from None
        bound.apply_defaults()
        try:
            for argument, value in bound.arguments.items():
                bound.arguments[argument] = _as_json(value, f"The argument {argument} of {name}")
            check_length(json.dumps(bound.arguments), f"The total of all arguments of {name}", MAX_ARGUMENTS)
        except NotJSONError as error:
            raise RayAgentInputError(str(error)) from None
        return bound

    def _mask_secrets(self, arguments: Mapping[str, Any]) -> list[str]:
        """Mask the secrets among the arguments; return these texts."""
        return self._mask({str(number): text for number, text in enumerate(secret_texts(arguments))})

    def _complete_runtime_env(self, context: Context, job_id: str) -> dict[str, Any]:
        runtime_env = super()._complete_runtime_env(context, job_id)
        if self.requirements:
            if isinstance(self.requirements, str):
                raise RayAgentInputError(f"requirements must be a list of packages, not {shown(self.requirements)}.")
            if taken := [name for name in ("pip", "uv", "conda") if name in runtime_env]:
                raise RayAgentInputError(f"requirements and runtime_env[{taken[0]!r}] are both set: set one of them.")
            runtime_env["pip"] = list(self.requirements)
        uri = self.hook.upload_files(self._package(context, job_id), name=self._shown_function)
        return {**runtime_env, "py_modules": [*(runtime_env.get("py_modules") or []), uri]}

    def _package(self, context: Context, job_id: str) -> dict[str, bytes]:
        source = source_of(cast("FunctionType", self.python_callable))
        call = {
            "args": self._bound.args,
            "kwargs": self._bound.kwargs,
            "name": source.name,
            "source": source.text,
            "file": _shown_path(source.file, context),
            "first_line": source.first_line,
            "future_annotations": source.future_annotations,
            "markers": _markers(job_id),
            "max_chars": MAX_RETURN_VALUE,
            # Ray's list of jobs has the digest of this file, from which nobody can guess the arguments.
            "salt": os.urandom(16).hex(),
        }
        return {**_sent_files(), f"{PACKAGE}/call.json": json.dumps(call).encode()}

    def _follow_options(self, job_id: str) -> FollowOptions:
        return replace(super()._follow_options(job_id), result_markers=(_markers(job_id),))

    def _work(self, context: Context) -> JobWork:
        return replace(super()._work(context), describe=lambda: self._shown_function)

    @property
    def _shown_function(self) -> str:
        return f"the function {self.python_callable.__name__}"

    def _output(self, summary: JobSummary) -> Any:
        outcome = summary["result"]
        if not isinstance(outcome, dict):
            return None
        if "skip" in outcome:
            raise AirflowSkipException(sanitize(str(outcome["skip"]), self.hook.config.redact, lines=True))
        return outcome.get("value")

    def _conclude(self, context: Context, run: JobRun, outcome: Outcome) -> Any:
        try:
            value = super()._conclude(context, run, outcome)
        except RayAgentRunFailedError as error:
            described = _described_error(run)
            if described is None:
                raise
            raise _function_error(described, error, self.hook.config.redact) from None
        self._push_outputs(context, value)
        return value

    def _push_outputs(self, context: Context, value: Any) -> None:
        """Push the outputs instead of Airflow, which would push all of them, if some cannot be XComs."""
        outputs = value if self._has_multiple_outputs and isinstance(value, dict) else {}
        problems = {key: problem for key in outputs if (problem := key_problem_of_job(key))}
        # Airflow reads it when the task has returned (``_push_xcom_if_needed`` in
        # ``airflow/sdk/execution_time/task_runner.py``).
        self.multiple_outputs = self._has_multiple_outputs and not problems
        if not problems or not self.do_xcom_push:
            return
        for problem in list(problems.values())[:MAX_PROBLEMS]:
            self.log.warning(
                coded(Code.INVALID_MESSAGE, "An output of %s is no XCom of its own: %s."),
                self._shown_function,
                sanitize(problem, self.hook.config.redact, length=MAX_NOTICE),
            )
        for key, output in outputs.items():
            if key not in problems:
                push_xcom(context["ti"], key, output)


def _markers(job_id: str) -> tuple[str, str]:
    """Return markers that nothing but this job prints."""
    return f"[outcome of {job_id}] ", " [end of outcome]"


def _described_error(run: JobRun) -> Mapping[str, Any] | None:
    """Return the exception that ended the function; ``None`` if it was ended in another way, such as by a signal."""
    from airflow_provider_rayagent.render.result import InvalidResultError

    try:
        outcome = run.output.result()
    except InvalidResultError:
        return None
    error = outcome.get("error") if isinstance(outcome, dict) else None
    return error if isinstance(error, dict) else None


def _function_error(described: Mapping[str, Any], failed: RayAgentError, redact: Callable[[str], str]) -> RayAgentError:
    """Return the task's error for an exception in the function.

    :param described: the exception, see ``rayagent_task.runner``.
    :param failed: the error for the failed job.
    :param redact: redacts secrets.
    """
    frames = [f"  {file}, line {line}, in {name}" for file, line, name in described["frames"]]
    message = f"{described['type']}: {described['message']}".rstrip(": ")
    kind = RayAgentJobFailedError if described["final"] else type(failed)
    error = kind(
        "\n".join((redact("\n".join((message, *frames))), failed.detail)), failed.status_code, code=failed.code
    )
    error.failure_kind = failed.failure_kind
    return error


def _as_json(value: Any, what: str) -> Any:
    """Return an argument with lists and dicts for what Airflow has instead, such as the outputs of a mapped task."""
    if isinstance(value, Mapping) and not isinstance(value, dict):
        value = dict(value)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, list, tuple)):
        value = list(value)
    return json.loads(check_json(value, what, MAX_ARGUMENTS))


def _shown_path(file: str, context: Context) -> str:
    """Return the path of a file in its DAG bundle, or its name if it is elsewhere."""
    bundle = getattr(context["ti"], "bundle_instance", None)
    path = Path(file)
    if bundle is not None and path.is_relative_to(bundle.path):
        return str(path.relative_to(bundle.path))
    return path.name


@cache
def _sent_files() -> dict[str, bytes]:
    """Return the files of the package that runs a function, by their paths in it."""
    folder = Path(__file__).with_name(PACKAGE)
    return {f"{PACKAGE}/{path.name}": path.read_bytes() for path in sorted(folder.glob("*.py"))}


class RayTaskDecorator(_TaskDecorator):  # type: ignore[type-arg]
    """A decorated function."""

    def _expand(self, expand_input: Any, *, strict: bool) -> Any:
        mapped = self.override()
        mapped.kwargs = _mapped(self.kwargs)
        return _TaskDecorator._expand(mapped, expand_input, strict=strict)


def _mapped(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a mapped task: Airflow stores them, and has a ``resources`` of its own."""
    from airflow_provider_rayagent.tasks.mapped_env_vars import hidden

    return hidden({_SHORT_NAMES.get(name, name): value for name, value in arguments.items()})


def ray_task(
    python_callable: Callable[..., Any] | None = None,
    *,
    multiple_outputs: bool | None = None,
    requirements: Sequence[str] = (),
    num_cpus: float | str | None = None,
    num_gpus: float | str | None = None,
    memory: int | str | None = None,
    resources: Mapping[str, float | str] | None = None,
    label_selector: Mapping[str, str] | None = None,
    **kwargs: Any,
) -> TaskDecorator:
    """Run a function of the DAG file as the driver of a Ray job: ``@task.ray``.

    The function runs in the cluster's Python, without Airflow and without the DAG file: it imports and defines itself
    what it uses, and calls ``ray.init()``. Its arguments and what it returns are JSON. They may be templates and
    outputs of other tasks; a parameter named like a variable of Airflow's context (``ds``, ``run_id``) gets its value.

    An exception fails the task, which shows its type, its message, and its lines in the DAG file. In the function,
    ``AirflowSkipException`` skips the task, and ``AirflowFailException`` fails it without a retry.

    XCom (``return_value``): what the function returns.

    .. code-block:: python

        from airflow.sdk import DAG, task


        @task.ray(num_cpus=1, requirements=["pandas"], rayagent_conn_id="rayagent_default")
        def count_rows(path):
            import ray

            ray.init()
            return ray.data.read_parquet(path).count()


        with DAG("count", schedule="@daily"):
            count_rows("s3://bucket/{{ ds }}")

    :param python_callable: the function; ``@task.ray`` is written with or without arguments.
    :param multiple_outputs: push each item of the returned dictionary as an XCom of its own; default: if the function
        is annotated to return one.
    :param requirements: packages that Ray installs for the job (``pip`` of its runtime environment). (templated)
    :param num_cpus: CPUs to reserve for the function, in addition to those of its Ray tasks. (templated)
    :param num_gpus: GPUs to reserve for it. (templated)
    :param memory: bytes of memory to reserve for it. (templated)
    :param resources: custom resources to reserve for it. (templated)
    :param label_selector: labels that its node must have; Ray 2.54 or newer. (templated)
    :raises RayAgentInputError: when the DAG file is parsed, if the function uses names of the DAG file, is no ``def``,
        or yields.

    The other arguments are those of :class:`.RayAgentSubmitJobOperator` except ``entrypoint``, and Airflow's
    ``BaseOperator``.
    """
    outputs: dict[str, Any] = {} if multiple_outputs is None else {"multiple_outputs": multiple_outputs}
    own = {
        "requirements": requirements,
        "num_cpus": num_cpus,
        "num_gpus": num_gpus,
        "memory": memory,
        "resources": resources,
        "label_selector": label_selector,
    }
    # What is not given may be in the ``default_args`` of the DAG.
    kwargs |= {name: value for name, value in own.items() if value not in (None, ())}

    def decorate(function: Callable[..., Any]) -> Any:
        check_function(function)
        return RayTaskDecorator(function=function, operator_class=RayTaskOperator, kwargs=kwargs, **outputs)

    return cast("TaskDecorator", decorate if python_callable is None else decorate(python_callable))
