"""Log text in, task-log lines out: pure code without I/O, driven by the transports of ``agent``."""

from __future__ import annotations
