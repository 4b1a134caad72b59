"""Identity, state and log files of a task instance, in workers and triggerers. Internal."""
