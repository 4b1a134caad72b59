"""What Airflow learns of this provider: its connection type, hook, operators, sensors and triggers."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.client.config import EXTRA_FIELDS, FIELDS
from airflow_provider_rayagent.client.validation import MAX_TIMEOUT

_NAME = "Ray agent"


def _field(section: str, description: str, *kinds: str, **schema: Any) -> dict[str, Any]:
    return {
        "description": description,
        "schema": {"type": [*(kinds or ("string",)), "null"], "section": section, **schema},
    }


_USER, _TLS, _REQUESTS, _JOBS = "User and tenant", "TLS", "Headers and timeouts", "Jobs"
_SECONDS = {"minimum": 0.1, "maximum": MAX_TIMEOUT}
_FIELDS = {
    "user_token": _field(
        _USER,
        "Of the user on whose behalf requests are made; sent as SYNAPSE-User. Empty: not sent.",
        format="password",
    ),
    "tenant": _field(_USER, "Sent as SYNAPSE-Tenant. Empty: not sent."),
    "verify": _field(_TLS, "Check the agent's certificate. Leave it on.", "boolean", default=True),
    "ca_bundle": _field(
        _TLS,
        "File with the CA certificates to check it with. This path, like the two below, must be there on every worker "
        "and triggerer, and on the API server for its Test button. Empty: the CAs that everyone trusts.",
    ),
    "client_cert": _field(_TLS, "File with the certificate that shows who we are, if the agent asks for one."),
    "client_key": _field(_TLS, "File with its key. Empty: the key is in the same file."),
    "headers": _field(
        _REQUESTS,
        'More request headers: {"Name": "value"}. Airflow hides a value whose name has token, secret, password or '
        "authorization in it, and no other.",
        # An object, so that Airflow hides secrets in it. A text too, since the field for an object alone puts the text
        # in order while one types, and the cursor at its end.
        "string",
        "object",
        format="multiline",
    ),
    "connect_timeout": _field(_REQUESTS, "Seconds to connect. Empty: 3.", "number", **_SECONDS),
    "read_timeout": _field(_REQUESTS, "Seconds without a byte of an answer. Empty: 10.", "number", **_SECONDS),
    "job_url": _field(
        _JOBS,
        "Address of a job's page with {job_id} in it, such as https://ray.example.com/#/jobs/{job_id}: where the link "
        '"Ray job" on a task leads. Empty: no link.',
    ),
    "job_namespace": _field(
        _JOBS,
        "Name of this Airflow deployment, such as production. The ids of the jobs that tasks start depend on it, so "
        "that deployments can share one agent. Empty: the address of this Airflow ([api] base_url).",
    ),
}
_TRIGGERS = ["airflow_provider_rayagent.triggers.rayagent", "airflow_provider_rayagent.triggers.applications"]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata (schema: Airflow's ``provider_info.schema.json``)."""
    return {
        "package-name": "airflow-provider-rayagent",
        "name": _NAME,
        "description": "Ray jobs and Serve applications behind a Ray agent.",
        "integrations": [
            {
                "integration-name": _NAME,
                "external-doc-url": "https://docs.ray.io/",
                "tags": ["service"],
            }
        ],
        "hooks": [{"integration-name": _NAME, "python-modules": ["airflow_provider_rayagent.hooks.rayagent"]}],
        "operators": [{"integration-name": _NAME, "python-modules": ["airflow_provider_rayagent.operators.rayagent"]}],
        "sensors": [{"integration-name": _NAME, "python-modules": ["airflow_provider_rayagent.sensors.rayagent"]}],
        "triggers": [{"integration-name": _NAME, "python-modules": _TRIGGERS}],
        "extra-links": ["airflow_provider_rayagent.links.rayagent.RayAgentJobLink"],
        "connection-types": [
            {
                "connection-type": "rayagent",
                "hook-name": _NAME,
                "hook-class-name": "airflow_provider_rayagent.hooks.rayagent.RayAgentHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "schema"],
                    "relabeling": FIELDS,
                    "placeholders": {
                        "host": "https://agent.example.com",
                        "port": "such as 443; some versions of Airflow need it for Test",
                    },
                },
                "conn-fields": {name: {"label": label, **_FIELDS[name]} for name, label in EXTRA_FIELDS.items()},
            }
        ],
    }
