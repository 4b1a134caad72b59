"""Requests to a service in front of Ray, its answers, and the drivers of a tail; no Airflow here. Internal."""
