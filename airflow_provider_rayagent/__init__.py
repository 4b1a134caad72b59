"""Apache Airflow provider for Ray clusters behind a Ray agent."""

from __future__ import annotations

__version__ = "0.1.0"
