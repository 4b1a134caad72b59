"""Operator links. Public: ``rayagent``."""
