"""Real servers for tests and the demo, each as a context manager."""

from __future__ import annotations
