"""Tell Airflow something from a Ray job. Copy this file, or import the function; it needs the standard library only."""

from __future__ import annotations

import json
import sys


def rayagent_message(kind: str, data: dict[str, object]) -> None:
    """Print a message for the Airflow task that runs or follows this job.

    :param kind: "xcom", "asset", "progress" or "link".
    :param data: for JSON, such as {"loss": 0.1}, {"extra": {"rows": 7}}, {"done": 3, "total": 9}, or
        {"name": "TensorBoard", "url": "https://..."}.
    """
    try:
        # In one piece, since other threads print as well.
        sys.stdout.write(f"__RAYAGENT_MESSAGE__ {json.dumps({'kind': kind, 'data': data}, default=_plain)}\n")
        sys.stdout.flush()
    except (TypeError, ValueError) as error:
        # What cannot be told must not end the job.
        sys.stderr.write(f"rayagent_message: {error}\n")


def _plain(value: object) -> object:
    # A number of NumPy or PyTorch has item(); others, such as dates, become text.
    return value.item() if hasattr(value, "item") else str(value)
