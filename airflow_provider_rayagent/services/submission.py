"""Validate a job submission and build its body. Pure.

Ray accepts most invalid values: the job then fails before it starts, without a log. So they are rejected here.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.errors.service_errors import (
    CONFLICT,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentUnsupportedError,
    preparation,
)
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.services.package_uri import is_uri
from airflow_provider_rayagent.services.ray_responses import check_resources, release_of
from airflow_provider_rayagent.services.validation import (
    json_object,
    shown,
    validate_amount,
    validate_bytes,
    validate_job_id,
)

if TYPE_CHECKING:
    from airflow_provider_rayagent.services.call import FileContent, Steps

# The kernel's limit includes the NUL at the end.
MAX_STRING_BYTES = 128 * 1024 - 1
"""Longest argument or environment variable of a process in Linux (``MAX_ARG_STRLEN`` in ``execve(2)``)."""
MAX_BODY_BYTES = 1024 * 1024
"""Largest request body of Ray's job agent (aiohttp's ``client_max_size``)."""
LABELS_RELEASE = (2, 54)
"""Oldest release of Ray whose submit call has ``entrypoint_label_selector``; an older one ignores it."""
RESERVED_RESOURCES = ("CPU", "GPU", "memory", "object_store_memory")

SUBMIT_SECONDS = 60.0
"""Time for the response to a submission, for which Ray creates an actor."""
UPLOAD_SECONDS = 120.0
"""Time for the response to an upload after its last byte; Ray writes the package to its control service first."""

_ENVIRONMENT_NAME = re.compile(r"[^=\0]+")


def submission_steps(
    path: str,
    list_nodes: Call,
    entrypoint: str,
    *,
    job_id: str | None = None,
    random_id_prefix: str = "rayagent",
    wait_for_scale_up: bool = False,
    **submission: Any,
) -> Steps:
    """Return the operation that submits a job; its result is the job's id.

    :param path: of the request.
    :param random_id_prefix: with what the id begins if ``job_id`` is ``None``.
    :param submission: see :func:`submission_body`.
    """
    # The id is chosen here and not by Ray, so that a request can be repeated whose response was lost; not with
    # ``random``, which a DAG may have seeded.
    body = submission_body(entrypoint, job_id=job_id or f"{random_id_prefix}-{os.urandom(8).hex()}", **submission)
    required = _required_resources(body)
    if required and not wait_for_scale_up:
        with preparation():
            check_resources((yield list_nodes), required)
    try:
        # Of the response, only the status counts: what it has is the id.
        yield Call("POST", path, "any", body, read_timeout=SUBMIT_SECONDS, has_unique_id=True)
    except RayAgentHTTPError as error:
        # A random id is taken only by the same request, whose first response was lost.
        if job_id is not None or error.status_code != CONFLICT:
            raise
    return body["submission_id"]


def check_release(ray_version: str, submission: Mapping[str, Any]) -> None:
    """Check that a release of Ray has what a submission uses; see :func:`submission_body`.

    :raises RayAgentUnsupportedError: if it has not.
    """
    if submission.get("entrypoint_label_selector") and release_of(ray_version) < LABELS_RELEASE:
        least = ".".join(map(str, LABELS_RELEASE))
        raise RayAgentUnsupportedError(
            f"Ray {ray_version} is too old for entrypoint_label_selector: {least} or newer is required."
        )


def upload_steps(path: str, content: FileContent) -> Steps:
    """Return the operation that uploads a package unless the cluster has it; its result is whether it did."""
    try:
        # This also keeps the package for ten minutes, even one that is uploaded afterwards. Otherwise Ray deletes it
        # once the last job with it ends, even while another one is being submitted (``pin_runtime_env_uri``).
        yield Call("GET", path, "nothing")
    except RayAgentNotFoundError:
        yield Call("PUT", path, "nothing", content=content, read_timeout=UPLOAD_SECONDS)
        return True
    return False


def submission_body(
    entrypoint: object,
    *,
    job_id: object,
    runtime_env: object = None,
    metadata: object = None,
    entrypoint_num_cpus: object = None,
    entrypoint_num_gpus: object = None,
    entrypoint_memory: object = None,
    entrypoint_resources: object = None,
    entrypoint_label_selector: object = None,
) -> dict[str, Any]:
    """Return the body of a submission, without arguments that are ``None``.

    :raises RayAgentInputError: for an invalid argument.
    """
    body: dict[str, Any] = {"entrypoint": _entrypoint(entrypoint), "submission_id": validate_job_id(job_id)}
    if runtime_env is not None:
        body["runtime_env"] = validate_runtime_env(runtime_env)
    if metadata is not None:
        body["metadata"] = _strings(metadata, "metadata")
    if entrypoint_num_cpus is not None:
        body["entrypoint_num_cpus"] = validate_amount(entrypoint_num_cpus, "entrypoint_num_cpus")
    if entrypoint_num_gpus is not None:
        body["entrypoint_num_gpus"] = validate_amount(entrypoint_num_gpus, "entrypoint_num_gpus")
    if entrypoint_memory is not None:
        body["entrypoint_memory"] = validate_bytes(entrypoint_memory, "entrypoint_memory")
    if entrypoint_resources is not None:
        body["entrypoint_resources"] = _resources(entrypoint_resources)
    if entrypoint_label_selector is not None:
        body["entrypoint_label_selector"] = _strings(entrypoint_label_selector, "entrypoint_label_selector")
    _check_size(body)
    return body


def validate_runtime_env(value: object) -> dict[str, Any]:
    """Return a runtime environment as a JSON object.

    :raises RayAgentInputError: if it cannot be sent, or names local files, which Ray would look for on the cluster.
    """
    env = json_object(value, "runtime_env")
    variables = env.get("env_vars")
    if variables is not None:
        env["env_vars"] = validate_env_vars(variables)
    modules = env.get("py_modules") or []
    if not isinstance(modules, list):
        raise RayAgentInputError(f"py_modules of the runtime_env must be a list of URIs, not {shown(modules)}.")
    for uri in [env.get("working_dir"), *modules]:
        if uri is not None and not (isinstance(uri, str) and is_uri(uri)):
            raise RayAgentInputError(
                f"runtime_env has the local path {shown(uri)}, which the cluster cannot read: use the argument "
                "working_dir, or a remote URI such as s3://bucket/code.zip."
            )
    return env


def validate_env_vars(value: object) -> dict[str, str]:
    """Return environment variables.

    :raises RayAgentInputError: if a name or value is not valid in an environment. The message has no value.
    """
    if not isinstance(value, Mapping):
        raise RayAgentInputError(f"env_vars must be a mapping of names to strings, not {type(value).__name__}.")
    for name, text in value.items():
        if not isinstance(name, str) or not _ENVIRONMENT_NAME.fullmatch(name):
            raise RayAgentInputError(f"env_vars has the invalid name {shown(name)}.")
        if not isinstance(text, str):
            raise RayAgentInputError(f"The value of env_vars[{name!r}] must be a string, not {type(text).__name__}.")
        # A process gets name and value as one string, to which the limit applies.
        _check_string(f"{name}={text}", f"The value of env_vars[{name!r}]")
    return dict(value)


def _required_resources(body: Mapping[str, Any]) -> dict[str, float]:
    """Return the amounts that the entrypoint of a submission requires, by Ray's names of resources."""
    names = {"entrypoint_num_cpus": "CPU", "entrypoint_num_gpus": "GPU", "entrypoint_memory": "memory"}
    amounts = {name: body[argument] for argument, name in names.items() if argument in body}
    amounts |= body.get("entrypoint_resources", {})
    return {name: amount for name, amount in amounts.items() if amount}


def _entrypoint(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RayAgentInputError(f"entrypoint must be a shell command, not {shown(value)}.")
    _check_string(value, "entrypoint")
    return value


def _check_string(text: str, what: str) -> None:
    """Check that Linux can pass a text to a process.

    :raises RayAgentInputError: if it cannot; the message does not contain the text.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise RayAgentInputError(f"{what} is not valid Unicode text.") from None
    if "\0" in text:
        raise RayAgentInputError(f"{what} contains a NUL character.")
    if size > MAX_STRING_BYTES:
        raise RayAgentInputError(
            f"{what} is longer than {MAX_STRING_BYTES:,} bytes, the most that Linux passes to a process: put it into a "
            "file of the working_dir."
        )


def _strings(value: object, what: str) -> dict[str, Any]:
    strings = json_object(value, what)
    for name, text in strings.items():
        if not isinstance(text, str):
            raise RayAgentInputError(f"The value of {what}[{name!r}] must be a string, not {shown(text)}.")
    return strings


def _resources(value: object) -> dict[str, float]:
    resources = json_object(value, "entrypoint_resources")
    for name in RESERVED_RESOURCES:
        if name in resources:
            raise RayAgentInputError(
                f"entrypoint_resources has {name!r}: use entrypoint_num_cpus, entrypoint_num_gpus or entrypoint_memory."
            )
    return {name: validate_amount(amount, f"entrypoint_resources[{name!r}]") for name, amount in resources.items()}


def _check_size(body: Mapping[str, Any]) -> None:
    # Ray's job supervisor gives both to the driver in one environment variable, RAY_JOB_CONFIG_JSON_ENV_VAR
    # (``dashboard/modules/job/job_supervisor.py``).
    config = {name: body[name] for name in ("runtime_env", "metadata") if name in body}
    for part, what, limit in (
        (config, "runtime_env and metadata", MAX_STRING_BYTES),
        (body, "the job", MAX_BODY_BYTES),
    ):
        # With escapes, as Ray's supervisor writes the first and ``requests`` sends the second; ``httpx`` sends less.
        size = len(json.dumps(part).encode())
        if size > limit:
            raise RayAgentInputError(
                f"{what[0].upper()}{what[1:]} would be sent as {size:,} bytes; Ray takes at most {limit:,}. Put large "
                "values into a file of the working_dir."
            )
