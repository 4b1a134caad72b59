"""The decorator ``@task.ray``: a function of the DAG file that runs as a Ray job."""
