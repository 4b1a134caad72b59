"""Tests of ``logs``: pure, no socket, no real clock."""

from __future__ import annotations
