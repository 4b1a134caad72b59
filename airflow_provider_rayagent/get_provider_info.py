"""What Airflow learns of this provider: its connection type, hook, operators, sensors and triggers."""

from __future__ import annotations

from typing import Any

_NAME = "Ray agent"


def _field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}


_SECONDS = {"exclusiveMinimum": 0, "maximum": 300}
_FIELDS = {
    "user_token": _field("User token", "Sent as SYNAPSE-User, for the user on whose behalf we act.", format="password"),
    "tenant": _field("Tenant", "Sent as SYNAPSE-Tenant."),
    "verify": _field("Verify TLS", "Check the agent's certificate. Leave it on.", "boolean", default=True),
    "ca_bundle": _field("CA bundle", "Path, on every worker, of the CA certificates to check it with."),
    "client_cert": _field("Client certificate", "Path, on every worker, of a certificate that the agent asks for."),
    "client_key": _field("Client key", "Path of its key, if the certificate's file does not hold it."),
    "headers": _field("Headers", 'More request headers, as JSON: {"Name": "value"}.'),
    "connect_timeout": _field("Connect timeout", "Seconds to connect; 3 if empty.", "number", **_SECONDS),
    "read_timeout": _field("Read timeout", "Seconds without a byte of an answer; 10 if empty.", "number", **_SECONDS),
    "job_url": _field("Job page", "Address of a job's page, with {job_id} in it: the link on a task."),
}


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
        "triggers": [{"integration-name": _NAME, "python-modules": ["airflow_provider_rayagent.triggers.rayagent"]}],
        "extra-links": ["airflow_provider_rayagent.links.rayagent.RayAgentJobLink"],
        "connection-types": [
            {
                "connection-type": "rayagent",
                "hook-name": _NAME,
                "hook-class-name": "airflow_provider_rayagent.hooks.rayagent.RayAgentHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "port", "schema"],
                    "relabeling": {"host": "Agent URL", "password": "Agent token"},
                    "placeholders": {"host": "https://agent.example.com"},
                },
                "conn-fields": _FIELDS,
            }
        ],
    }
