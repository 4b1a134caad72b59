"""Where in the log a task is: its stores, take-overs, and lines whose files are lost. Internal."""
