"""The Ray page inside the Airflow UI, served by the API server; `plugin.py` registers it."""
