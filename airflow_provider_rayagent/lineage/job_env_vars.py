"""Tell the program of a job which OpenLineage run is its parent, and where to send its own events.

The names are those that ``openlineage-python`` and ``dbt-ol`` read (``_load_config_from_env_variables`` in
``openlineage/client/client.py``, ``get_parent_run_metadata`` in ``openlineage/common/provider/dbt/utils.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.services.job_secrets import HEADERS_ENV_VAR

if TYPE_CHECKING:
    from collections.abc import Mapping

PARENT_ENV_VARS = ("OPENLINEAGE_PARENT_ID", "OPENLINEAGE_ROOT_PARENT_ID", "OPENLINEAGE_CONTEXT")
TRANSPORT = "OPENLINEAGE__TRANSPORT"
"""What the names of the variables for a transport begin with."""
OTHER_TRANSPORT_ENV_VARS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE_DISABLED")
"""With one of these, too, the author of the DAG decides where events go."""
HTTP_KINDS = ("http", "async_http")


@dataclass(frozen=True)
class LineageEnvVars:
    """Environment variables for a job.

    :param plain: those that are no secrets.
    :param secret: those to be masked.
    """

    plain: dict[str, str] = field(default_factory=dict)
    # The repr of this object must not show them.
    secret: dict[str, str] = field(default_factory=dict, repr=False)

    def __or__(self, other: LineageEnvVars) -> LineageEnvVars:
        return LineageEnvVars(self.plain | other.plain, self.secret | other.secret)


def lineage_env_vars(
    ti: Any,
    given: Mapping[str, str],
    *,
    parent: bool,
    transport: bool,
    log: Any,
) -> LineageEnvVars:
    """Return the variables that a job gets. What cannot be passed is said in the task log, and left out.

    :param ti: the task instance, whose run is the parent.
    :param given: the variables of the DAG's author, which are not replaced.
    :param parent: whether the job gets its parent.
    :param transport: whether it gets the transport of this Airflow.
    :raises RayAgentInputError: if Airflow's OpenLineage provider is not installed.
    """
    found = LineageEnvVars()
    if not parent and not transport:
        return found
    try:
        from airflow.providers.openlineage import conf
    except ImportError as error:
        raise RayAgentInputError(
            "openlineage_inject_parent_job_info and openlineage_inject_transport_info require the package "
            f"apache-airflow-providers-openlineage, which cannot be imported ({error}): install it where the workers "
            "run, or leave both arguments out."
        ) from None
    try:
        if conf.is_disabled():
            log.info("OpenLineage is disabled in this Airflow, or has no transport: the job gets nothing of it.")
            return found
        if parent and not _has_own(given, PARENT_ENV_VARS, "the parent run", log):
            found |= LineageEnvVars(parent_env_vars(ti))
        if transport and not _has_own(given, (TRANSPORT, *OTHER_TRANSPORT_ENV_VARS), "the transport", log):
            found |= _transport_env_vars(log)
    except Exception as error:  # noqa: BLE001 - no error of OpenLineage may end the task
        # Without its text, which may quote the configuration, and a key in it.
        log.warning("Not all of OpenLineage's variables are passed to the job: %s.", type(error).__name__)
    if names := sorted(found.plain | found.secret):
        log.info("For OpenLineage, the job gets %s.", ", ".join(names))
    return found


def parent_env_vars(ti: Any) -> dict[str, str]:
    """Return the run of a task instance's present try as the parent of its job, and the parent's root."""
    from airflow.providers.openlineage import conf
    from airflow.providers.openlineage.plugins import macros

    def run(namespace: str, name: str, run_id: str) -> dict[str, Any]:
        return {"run": {"runId": run_id}, "job": {"namespace": namespace, "name": name}}

    parent = run(conf.namespace(), macros.lineage_job_name(ti), macros.lineage_run_id(ti))
    root = run(macros.lineage_root_job_namespace(ti), macros.lineage_root_job_name(ti), macros.lineage_root_run_id(ti))
    # dbt-ol reads the last one first, which alone permits a namespace with slashes; older programs know only the ids.
    values = (_id(parent), _id(root), json.dumps({"parent": {**parent, "root": root}}))
    return dict(zip(PARENT_ENV_VARS, values, strict=True))


def transport_env_vars(transport: Any) -> tuple[LineageEnvVars, list[str]]:
    """Return the variables for a transport, and why it, or a part of it, cannot be sent.

    :param transport: that of an ``OpenLineageClient``.
    """
    transports = transport.transports if transport.kind == "composite" else [transport]
    settings = [_http_settings(each) for each in transports]
    sent = [each for each in settings if isinstance(each, LineageEnvVars)]
    problems = [each for each in settings if isinstance(each, str)]
    if len(sent) == 1:
        return _named(sent[0], TRANSPORT), problems
    found = LineageEnvVars()
    if sent:
        continues = json.dumps(transport.config.continue_on_failure)
        found |= _named(LineageEnvVars({"TYPE": "composite", "CONTINUE_ON_FAILURE": continues}), TRANSPORT)
    for number, each in enumerate(sent, 1):
        found |= _named(each, f"{TRANSPORT}__TRANSPORTS__HTTP{number}")
    return found, problems


def _http_settings(transport: Any) -> LineageEnvVars | str:
    """Return the settings of a transport over HTTP, by the ends of their names.

    If it is none, or needs what is on this machine only, return what it is.
    """
    kind = transport.kind
    if kind not in HTTP_KINDS:
        return f"transport {kind!r}"
    config = transport.config
    if getattr(config, "ssl_context", None) is not None:
        return f"transport {kind!r} with certificates in files"
    plain = {
        # An asynchronous one loses its events when a program ends without closing it.
        "TYPE": "http",
        "TIMEOUT": json.dumps(config.timeout),
        "VERIFY": json.dumps(config.verify),
    }
    secret: dict[str, str] = {}
    for name, value in (("URL", config.url), ("ENDPOINT", _as_value(config.endpoint))):
        # With a password in it, or a key in its query.
        (secret if "@" in value or "?" in value else plain)[name] = value
    if config.compression is not None:
        plain["COMPRESSION"] = str(config.compression)
    if config.custom_headers:
        secret[HEADERS_ENV_VAR] = json.dumps(config.custom_headers)
    auth = type(config.auth).__name__
    if auth == "ApiKeyTokenProvider":
        plain["AUTH__TYPE"] = "api_key"
        # Apart from its type, and not in one JSON: so it is masked by itself.
        secret["AUTH__API_KEY"] = _as_value(config.auth.api_key)
    elif auth != "TokenProvider":
        return f"transport {kind!r} with the authentication {auth}"
    return LineageEnvVars(plain, secret)


def _named(settings: LineageEnvVars, prefix: str) -> LineageEnvVars:
    plain, secret = (
        {f"{prefix}__{name}": value for name, value in part.items()} for part in (settings.plain, settings.secret)
    )
    return LineageEnvVars(plain, secret)


def _transport_env_vars(log: Any) -> LineageEnvVars:
    from airflow.providers.openlineage.plugins.listener import get_openlineage_listener

    found, problems = transport_env_vars(
        get_openlineage_listener().adapter.get_or_create_openlineage_client().transport
    )
    if problems:
        log.info("Not passed to the job, since it would not work there: OpenLineage's %s.", ", ".join(problems))
    return found


def _has_own(given: Mapping[str, str], prefixes: tuple[str, ...], what: str, log: Any) -> bool:
    own = sorted(name for name in given if name.startswith(prefixes))
    if own:
        log.info("The job has %s of its own, so %s of OpenLineage is not passed to it.", ", ".join(own), what)
    return bool(own)


def _id(run: Mapping[str, Any]) -> str:
    return f"{run['job']['namespace']}/{run['job']['name']}/{run['run']['runId']}"


def _as_value(text: str) -> str:
    """Return a text as the value of a variable, which the client takes for JSON if it is JSON."""
    try:
        json.loads(text)
    except ValueError:
        return text
    return json.dumps(text)
