"""Shared by operators and sensors: follow a job, wait, stop the job on kill. Internal."""
