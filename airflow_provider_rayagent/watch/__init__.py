"""Watch the ends of jobs: what ``triggers.job_watcher.RayAgentJobWatcher`` consists of. Internal."""
