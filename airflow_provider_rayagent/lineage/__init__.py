"""What OpenLineage learns of a job; needs the optional ``apache-airflow-providers-openlineage``. Internal."""
