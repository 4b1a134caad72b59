"""Hooks for a Ray agent. Public: ``rayagent``; all else is internal."""
