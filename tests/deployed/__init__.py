"""The provider in an Airflow whose every component has a disk of its own, with task logs in an object store."""

from __future__ import annotations
