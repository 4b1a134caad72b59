"""Client of a service in front of Ray: requests, responses, transports and tail drivers. Without Airflow; internal."""
