"""Read the client's configuration from an Airflow connection."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from airflow_provider_rayagent.client.config import AgentConfig, read_config
from airflow_provider_rayagent.client.errors import RayAgentConfigError
from airflow_provider_rayagent.client.plugins import validate_timeout_pair


def config_from_connection(connection: Any) -> AgentConfig:
    """Return the configuration in an Airflow connection, and register its secrets for masking in logs.

    A token in a file is read, and registered, at the first request.

    :raises RayAgentConfigError: if a field is missing or invalid; the message names it.
    """
    from airflow.sdk.log import mask_secret

    try:
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, Mapping):
        raise RayAgentConfigError("The connection's extra must be a JSON object.")
    config = read_config(
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        token=connection.password,
        extra=extra,
        mask=mask_secret,
    )
    for form in config.redact.forms:
        mask_secret(form)
    return config


def config_with_timeout(config: AgentConfig, timeout: object) -> AgentConfig:
    """Return a copy of the configuration with other timeouts.

    :param timeout: pair of connect and read timeout in seconds.
    :raises RayAgentInputError: if ``timeout`` is not such a pair.
    """
    connect, read = validate_timeout_pair(timeout)
    return replace(config, connect_timeout=connect, read_timeout=read)
