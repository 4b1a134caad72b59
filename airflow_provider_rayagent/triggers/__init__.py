"""Triggers. Public: ``rayagent``, ``applications`` and ``capacity``; all else is internal."""
