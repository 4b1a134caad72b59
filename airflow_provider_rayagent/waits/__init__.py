"""Wait for a state of the cluster, in a worker or a triggerer. Internal."""
