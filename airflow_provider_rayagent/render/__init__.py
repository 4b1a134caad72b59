"""What a tail gives in, records for the task log out. Pure; internal."""
