"""Triggers. Public: ``rayagent``, ``applications``, ``capacity`` and ``job_watcher``; all else is internal."""
