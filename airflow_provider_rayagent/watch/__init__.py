"""Watch the ends of jobs: what :class:`~airflow_provider_rayagent.triggers.job_watcher.RayAgentJobWatcher` needs. Internal."""
