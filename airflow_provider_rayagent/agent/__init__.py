"""The agent's wire and the transports over it; no Airflow here."""

from __future__ import annotations
