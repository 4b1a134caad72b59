"""The commands of ``airflow rayagent``, in this process, against the scripted agent."""
