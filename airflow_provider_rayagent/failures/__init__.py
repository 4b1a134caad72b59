"""Why a job failed: what Ray says about the job, and what Ray records about its tasks, actors and nodes (pure)."""
