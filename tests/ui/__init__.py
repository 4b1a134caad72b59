"""The Ray page on a real API server."""

from __future__ import annotations
