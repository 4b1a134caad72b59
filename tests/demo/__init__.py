"""A Ray job followed by Airflow, both real, from one command."""

from __future__ import annotations
