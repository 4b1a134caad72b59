"""The errors of requests to a service, and which of them pass. Without Airflow."""
