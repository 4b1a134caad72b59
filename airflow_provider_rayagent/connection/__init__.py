"""The configuration of a client, from the parts of an Airflow connection. Without Airflow."""
