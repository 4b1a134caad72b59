"""The commands of ``airflow rayagent``. Internal; the commands themselves are public."""
