"""What is sent to the cluster with a function, and runs there without this package and without Airflow."""
