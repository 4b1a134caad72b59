"""The Ray page inside the Airflow UI, served by the API server; `plugin.py` registers it."""

from __future__ import annotations

TASK_CLASSES = (
    "RayAgentJobSensor",
    "RayAgentRunPluginOperator",
    "RayAgentStopJobOperator",
    "RayAgentSubmitJobOperator",
    "RayTaskOperator",
)
"""The operators and sensors of one job, whose task instances have the tab *Ray job*. Their names, since every component
of Airflow imports this module."""
