"""Metrics of followed jobs, sent to Airflow's own metrics."""
