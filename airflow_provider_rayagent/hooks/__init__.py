"""Talk to a Ray agent from Airflow. Public: ``rayagent``; all else is internal."""
