"""What is sent to the cluster with a function, and runs there without this package and without Airflow."""

from __future__ import annotations

from .message import print_result, rayagent_message  # noqa: TID252 - on the cluster, this package has another name

__all__ = ["print_result", "rayagent_message"]
