"""The operator that runs a plugin."""

from __future__ import annotations

from typing import Any

from airflow_provider_rayagent.operators.rayagent import RayAgentRunPluginOperator

RUN = "POST plugin_releases/train@1.0/run/"


def make_operator(**options: Any) -> RayAgentRunPluginOperator:
    arguments = {"task_id": "follow", "lookup": "train@1.0", "action": "train", "poll_interval": 0.5, **options}
    return RayAgentRunPluginOperator(**arguments)
