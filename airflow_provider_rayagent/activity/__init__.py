"""What a job does before it ends: why it waits."""
