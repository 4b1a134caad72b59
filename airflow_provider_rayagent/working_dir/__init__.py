"""A folder becomes the package that Ray runs a job in. Without Airflow."""
