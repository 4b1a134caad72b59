"""The provider's metadata: its connection type, hooks, operators, sensors, triggers, links and commands."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.connection.fields import EXTRA_FIELDS, FIELDS
from airflow_provider_rayagent.connection.permitted_files import (
    API_SERVER_FOLDERS,
    FOLDERS,
    SECTION,
    TLS_FOLDERS,
    TOKEN_FOLDERS,
)
from airflow_provider_rayagent.text.bounds import MAX_TIMEOUT

_NAME = "Ray agent"
_INTEGRATION = "Ray"


def _field(section: str, description: str, *kinds: str, **schema: Any) -> dict[str, Any]:
    return {
        "description": description,
        # A field that is left empty is null.
        "schema": {"type": [*(kinds or ("string",)), "null"], "section": section, **schema},
    }


_SERVICE, _USER, _TLS, _REQUESTS, _JOBS = "Service", "User and tenant", "TLS", "Headers and timeouts", "Jobs"
_SECONDS = {"minimum": 0.1, "maximum": MAX_TIMEOUT}
_FIELDS = {
    "service": _field(
        _SERVICE,
        "What answers at the URL: agent (a Ray agent) or ray (Ray's own dashboard). Empty: agent.",
        enum=["agent", "ray", None],
    ),
    "clusters": _field(
        _SERVICE,
        "Which clusters tasks may name, if the host of the Service URL is {cluster}: names, whose * stands for one "
        "label (*.emr.internal), addresses and networks (10.20.0.0/16), separated by commas; with a port or ports "
        "(127.0.0.1:8265-8300) for clusters that are named with one.",
    ),
    "test_cluster": _field(_SERVICE, "The cluster that the Test button asks, if the Service URL has {cluster} in it."),
    "token_file": _field(
        _SERVICE,
        "Path of a file that contains the token, such as one that Kubernetes mounts; it is read again when the token "
        "changes. It must exist on every worker and triggerer; the deployment names "
        "the folders that are permitted. Leave Token empty.",
    ),
    "user_token": _field(
        _USER,
        "Token of the user on whose behalf Airflow acts. Sent to an agent as SYNAPSE-User; empty: not sent.",
        format="password",
    ),
    "tenant": _field(_USER, "Sent to an agent as SYNAPSE-Tenant; empty: not sent."),
    "verify": _field(_TLS, "Verify the server's certificate. Keep this on.", "boolean", default=True),
    "ca_bundle": _field(
        _TLS,
        "Path of the CA certificates to verify it with. This file and the two below must exist on every worker and "
        "triggerer, in a folder that the deployment permits. Empty: public CAs.",
    ),
    "client_cert": _field(_TLS, "Path of the client certificate, if the server requires one."),
    "client_key": _field(_TLS, "Path of its private key. Empty: the key is in the certificate file."),
    "headers": _field(
        _REQUESTS,
        'Additional request headers: {"Name": "value"}. Airflow masks values whose names contain token, secret, '
        "password or authorization, and no others.",
        # "object", so that Airflow masks secrets in it. "string" as well: the form's editor for objects alone reformats
        # the text and moves the cursor to its end while you type.
        "string",
        "object",
        format="multiline",
    ),
    "connect_timeout": _field(_REQUESTS, "Timeout in seconds to connect. Empty: 3.", "number", **_SECONDS),
    "read_timeout": _field(_REQUESTS, "Timeout in seconds while waiting for data. Empty: 10.", "number", **_SECONDS),
    "job_url": _field(
        _JOBS,
        "URL of a job's page, with {job_id} in it, such as https://ray.example.com/#/jobs/{job_id}. The target "
        'of the link "Ray job" on a task. Empty: no link, or with Service ray the page of the dashboard.',
    ),
    "metrics_url": _field(
        _JOBS,
        'URL of a page with metrics: the target of the link "Ray metrics" on a task, and of a button on the Ray page, '
        "such as https://grafana.example.com/d/rayDefaultDashboard?from={start}&to={end}. Filled in are {job_id}, "
        "{node_id} (of the job's driver), {host} (host and port of the Service URL), {cluster} (in that), {start} "
        "and {end} (milliseconds since the epoch, or now). Empty: no link.",
    ),
    "logs_url": _field(
        _JOBS, 'URL of a page with collected logs, like Metrics page: the link "Ray logs". Empty: no link.'
    ),
    "history_url": _field(
        _JOBS,
        "URL of the job in a history server, also for clusters that are gone, like Metrics page: the link "
        '"Ray history". Empty: no link.',
    ),
    "job_namespace": _field(
        _JOBS,
        "Name of this Airflow deployment, such as production. It is part of the identity of the jobs that tasks start, "
        "so that deployments can share an agent. Empty: the URL of this Airflow ([api] base_url).",
    ),
}
_OPTIONS = {
    TOKEN_FOLDERS: (
        "Folders, separated by commas, that the token files of connections must be in, on workers and triggerers and "
        "for commands. The identity of the pod, such as the token of its service account, is never sent."
    ),
    TLS_FOLDERS: (
        "Folders, separated by commas, that the CA bundles, client certificates and keys of connections must be in, "
        "on workers and triggerers and for commands."
    ),
    API_SERVER_FOLDERS: (
        "Folders, separated by commas, from which the API server opens the files that connections name: token, CA "
        "bundle, client certificate and key. Empty: it opens none, since who may edit connections could have it send "
        "the content of any file to any host."
    ),
}
_PAGE = {
    "description": "Whether Airflow's UI has the page Ray. With False, the API server has none of its routes.",
    "version_added": "0.1.0",
    "type": "boolean",
    "example": None,
    "default": "True",
}
_LINKS = ("Job", "Metrics", "Logs", "History")
_TRIGGERS = [
    f"airflow_provider_rayagent.triggers.{name}" for name in ("rayagent", "applications", "capacity", "job_watcher")
]


def _option(name: str, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": "string",
        "example": "/var/run/secrets/ray, /etc/ray",
        "default": FOLDERS[name],
    }


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata (schema: Airflow's ``provider_info.schema.json``)."""
    return {
        # Must be the canonical name of the distribution: any other one breaks the discovery of all providers.
        "package-name": "airflow-provider-rayagent",
        "name": _NAME,
        "description": "Ray jobs and Serve applications, over Ray's own dashboard or a Ray agent.",
        "integrations": [{"integration-name": _INTEGRATION, "tags": ["service"]}],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_rayagent.hooks.rayagent"]}],
        "operators": [
            {"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_rayagent.operators.rayagent"]}
        ],
        "sensors": [
            {"integration-name": _INTEGRATION, "python-modules": ["airflow_provider_rayagent.sensors.rayagent"]}
        ],
        "triggers": [{"integration-name": _INTEGRATION, "python-modules": _TRIGGERS}],
        "task-decorators": [{"name": "ray", "class-name": "airflow_provider_rayagent.decorators.ray_task.ray_task"}],
        "cli": ["airflow_provider_rayagent.cli.definition.get_commands"],
        "extra-links": [f"airflow_provider_rayagent.links.rayagent.RayAgent{name}Link" for name in _LINKS],
        "config": {
            SECTION: {
                "description": "Options of the provider for Ray.",
                "options": {name: _option(name, text) for name, text in _OPTIONS.items()} | {"page": _PAGE},
            }
        },
        "connection-types": [
            {
                "connection-type": "rayagent",
                "hook-name": _NAME,
                "hook-class-name": "airflow_provider_rayagent.hooks.rayagent.RayAgentHook",
                "ui-field-behaviour": {
                    # A schema comes with connections that are URIs; in the form, it is a part of the service's URL.
                    "hidden-fields": ["login", "schema"],
                    "relabeling": FIELDS,
                    "placeholders": {
                        "host": "https://agent.example.com",
                        "port": "such as 443; some Airflow versions require it for Test",
                    },
                },
                "conn-fields": {name: {"label": label, **_FIELDS[name]} for name, label in EXTRA_FIELDS.items()},
            }
        ],
    }
