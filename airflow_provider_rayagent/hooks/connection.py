"""Read the client's configuration from an Airflow connection."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.connection.permitted_files import (
    API_SERVER_FOLDERS,
    FOLDERS,
    SECTION,
    TLS_FOLDERS,
    TOKEN_FOLDERS,
    PermittedFolders,
)
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.services.plugins import validate_timeout_pair
from airflow_provider_rayagent.services.validation import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_API_SERVER = "airflow.api_fastapi.main"
"""The module of the API server, which nothing else imports (``airflow/cli/commands/api_server_command.py``)."""


def config_from_connection(connection: Any, cluster: object = None, *, is_test: bool = False) -> ServiceConfig:
    """Return the configuration in an Airflow connection, and register its secrets for masking in logs.

    A token in a file is read, and registered, at the first request.

    :param cluster: the value for the placeholder ``{cluster}`` in the URL of the connection; ``None``: there is none.
    :param is_test: whether to use the connection's *Test cluster* if ``cluster`` is ``None``.
    :raises RayAgentConfigError: if a field is missing or invalid; the message names it.
    """
    from airflow.sdk.log import mask_secret

    try:
        # Not by ``extra_dejson``, which is empty for invalid JSON, so that the mistake would not be noticed
        # (``airflow/sdk/definitions/connection.py``).
        extra = json.loads(connection.extra or "{}")
    except ValueError:
        extra = None
    if not isinstance(extra, Mapping):
        raise RayAgentConfigError("The connection's extra must be a JSON object.")
    # In the API server, those who edit connections can do what otherwise only the authors of DAGs can.
    is_in_api_server = _API_SERVER in sys.modules
    config = read_config(
        host=connection.host,
        port=connection.port,
        schema=connection.schema,
        token=connection.password,
        extra=extra,
        cluster=(extra.get("test_cluster") or None) if is_test and cluster is None else cluster,
        mask=mask_secret,
        token_folders=permitted_folders(API_SERVER_FOLDERS if is_in_api_server else TOKEN_FOLDERS),
        tls_folders=permitted_folders(API_SERVER_FOLDERS if is_in_api_server else TLS_FOLDERS),
    )
    # Airflow itself masks only the password and the extra as a whole (``_mask_connection_secrets`` in
    # ``airflow/sdk/execution_time/context.py``).
    for form in config.redact.forms:
        mask_secret(form)
    return config


@contextmanager
def missing_as_config_error(conn_id: str) -> Iterator[None]:
    """Raise our error, which has a code, instead of Airflow's for a connection that does not exist.

    :raises RayAgentConfigError: for an ``AirflowNotFoundException``.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        yield
    except AirflowNotFoundException:
        raise RayAgentConfigError(
            f"There is no Airflow connection {shown(conn_id)}: create it, with the type Ray agent (rayagent), or name "
            "another one."
        ) from None


def permitted_folders(option: str) -> PermittedFolders:
    """Return the folders that an option of Airflow names, separated by commas."""
    from airflow.sdk.configuration import conf

    value: str = conf.get(SECTION, option, fallback=FOLDERS[option]) or ""
    paths = tuple(path for part in value.split(",") if (path := part.strip()))
    return PermittedFolders(paths, f"[{SECTION}] {option}")


def config_with_timeout(config: ServiceConfig, timeout: object) -> ServiceConfig:
    """Return a copy of the configuration with other timeouts.

    :param timeout: pair of connect and read timeout in seconds.
    :raises RayAgentInputError: if ``timeout`` is not such a pair.
    """
    connect, read = validate_timeout_pair(timeout)
    return replace(config, connect_timeout=connect, read_timeout=read)
