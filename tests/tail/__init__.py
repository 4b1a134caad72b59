"""The log tail against every fault over real sockets; see ``faults.py`` for the table."""

from __future__ import annotations
