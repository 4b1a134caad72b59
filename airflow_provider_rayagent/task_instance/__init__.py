"""What Airflow knows of the task instance that a job belongs to, in a worker and in a triggerer. Internal."""
