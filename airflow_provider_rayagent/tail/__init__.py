"""Events in, a job's log lines out, each once and in order, until the job has ended. Pure; internal."""
