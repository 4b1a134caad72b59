"""The secrets in a job's environment. Pure.

A job that was submitted with secrets names their environment variables in its metadata, so that everyone who follows it
can mask their values, which are in the job's details. Of other jobs, the names of the variables decide.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.text.secret_parts import (
    header_secrets,
    is_secret_field,
    is_secret_variable,
    uri_secrets,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MASKED_ENV_VARS = "airflow_masked_env_vars"
"""Name in a job's metadata: a JSON list of environment variables."""
HEADERS_ENV_VAR = "CUSTOM_HEADERS"
"""End of the name of a variable for OpenLineage's client: a JSON object of HTTP headers, each of which is a secret."""
OWN_ENV_VARS = "RAYAGENT_"
"""What the names of this provider's variables begin with, none of which is a secret: ``RAYAGENT_RESUME_KEY``."""
MIN_SECRET = 5
"""Characters of the shortest value that is masked, as Airflow's default (``[logging] min_length_masked_secret``)."""


def masked_names(env_vars: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata that names the environment variables whose values are masked in the job's log."""
    return {MASKED_ENV_VARS: json.dumps(sorted(env_vars))} if env_vars else {}


def secrets_of(job: Mapping[str, Any]) -> list[str]:
    """Return the texts to mask in what is shown of a job: the values of its secret variables.

    These are the variables that :func:`masked_names` names, or without it those with a name such as ``API_KEY``.

    :param job: the job's details, which have the values.
    """
    # Whoever submits a job chooses its details: no form of them may end the following of the job.
    try:
        env_vars = {name: value for name, value in job["runtime_env"]["env_vars"].items() if isinstance(value, str)}
    except (KeyError, TypeError, AttributeError):
        return []
    try:
        named = set(json.loads(job["metadata"][MASKED_ENV_VARS]))
    except (KeyError, TypeError, ValueError, RecursionError):
        named = {name for name in env_vars if is_secret_variable(name) and not name.startswith(OWN_ENV_VARS)}
    return secret_values({name: value for name, value in env_vars.items() if name in named})


def redactor_of(job: Mapping[str, Any], redact: Redactor) -> Redactor:
    """Return a redactor of the secrets of a connection and of a job."""
    secrets = secrets_of(job)
    return Redactor(secrets, base=redact) if secrets else redact


def without_masked_names(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a job's details without the metadata that :func:`masked_names` has added."""
    metadata = job.get("metadata")
    if not isinstance(metadata, dict):
        return job
    return {**job, "metadata": {name: value for name, value in metadata.items() if name != MASKED_ENV_VARS}}


def secret_values(env_vars: Mapping[str, str]) -> list[str]:
    """Return the values of environment variables that are masked: those that are not parts of ordinary words.

    Of a URI, such as that of an Airflow connection, its password and the keys in its query are masked on their own as
    well; of OpenLineage's headers each value, and the token in it; and of a JSON text what is in its quotes.
    """
    values = [
        part
        for name, value in env_vars.items()
        for part in (value, *([value[1:-1]] if value[:1] == '"' else []), *uri_secrets(value), *_headers(name, value))
    ]
    # ``false`` is as long as the shortest secret, and common in logs; ``true`` is shorter.
    return [value for value in values if len(value) >= MIN_SECRET and value.lower() != "false"]


def _headers(name: str, value: str) -> list[str]:
    if not name.endswith(f"__{HEADERS_ENV_VAR}"):
        return []
    try:
        headers = [(header, text) for header, text in json.loads(value).items() if isinstance(text, str)]
    except (ValueError, AttributeError, RecursionError):  # Whoever submits a job chooses its variables.
        return []
    return [
        part
        for header, text in headers
        for part in (header_secrets(header, text) if is_secret_field(header) else [text])
    ]
