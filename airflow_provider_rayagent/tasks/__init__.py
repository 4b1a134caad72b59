"""What operators and sensors share: following a job, waiting, stopping on a kill. Internal."""
