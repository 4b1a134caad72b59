"""The fields of a connection. Imports nothing: every ``airflow`` command loads it."""

from __future__ import annotations

FIELDS = {"host": "Service URL", "password": "Token"}
"""Standard fields of a connection with a different label in our connection form."""

EXTRA_FIELDS = {
    "service": "Service",
    "clusters": "Clusters",
    "test_cluster": "Test cluster",
    "token_file": "Token file",
    "user_token": "User token",
    "tenant": "Tenant",
    "verify": "Verify TLS",
    "ca_bundle": "CA bundle",
    "client_cert": "Client certificate",
    "client_key": "Client key",
    "headers": "Headers",
    "connect_timeout": "Connect timeout",
    "read_timeout": "Read timeout",
    "job_url": "Job page",
    "metrics_url": "Metrics page",
    "logs_url": "Logs page",
    "history_url": "History page",
    "job_namespace": "Job namespace",
}
"""Supported fields of a connection's extra, with their labels in the connection form; others are ignored."""


def text_of(value: object) -> object:
    """Return the text of a number, which may have been text: a connection's URI can't tell. Anything else as it is."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def field_name(name: str) -> str:
    """Return the label and name of a connection field, for messages."""
    return f"{(FIELDS | EXTRA_FIELDS)[name]} ({name})"
