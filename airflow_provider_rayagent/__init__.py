"""Apache Airflow provider for Ray, over Ray's own dashboard or a Ray agent."""

from __future__ import annotations

__version__ = "0.1.0"
