"""Operators. Public: ``rayagent``; all else is internal."""
