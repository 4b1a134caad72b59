"""Measurements, each a module to run."""

from __future__ import annotations
