"""What Airflow learns of this provider: its connection type, hook, operators and sensors."""

from __future__ import annotations

from typing import Any

_NAME = "Ray agent"


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
        "connection-types": [
            {
                "connection-type": "rayagent",
                "hook-name": _NAME,
                "hook-class-name": "airflow_provider_rayagent.hooks.rayagent.RayAgentHook",
            }
        ],
    }
