"""Sensors. Public: ``rayagent``; all else is internal."""
