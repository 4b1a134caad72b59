"""Turn the items of a tail into records of the task log. Pure; internal."""
