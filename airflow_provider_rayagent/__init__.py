"""Apache Airflow provider for Ray work that runs behind a Ray agent."""

from __future__ import annotations

__version__ = "0.1.0"
