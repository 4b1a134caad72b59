"""The example DAGs through a real Airflow, with the local agent over a real Ray."""

from __future__ import annotations
