"""The agent's own client and our hook against one agent: the same answers."""

from __future__ import annotations
