"""Sanitize text from agents, Ray and jobs for the log and the database, and redact secrets. Pure; internal."""
