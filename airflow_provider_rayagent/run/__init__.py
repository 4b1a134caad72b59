"""What a task does with a job, in a worker and in a triggerer. Internal."""
