"""Triggers. Public: ``rayagent`` and ``applications``; all else is internal."""
