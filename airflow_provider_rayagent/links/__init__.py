"""Links on a task. Public: ``rayagent``."""
