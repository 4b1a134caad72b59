"""Tell Airflow something from a Ray job. Copy this file, or import it; it needs the standard library only."""

from __future__ import annotations

import json
import sys


def rayagent_message(kind: str, data: dict[str, object]) -> None:
    """Print a message for the Airflow task that runs or follows this job.

    :param kind: "xcom", "asset", "progress" or "link".
    :param data: for JSON, such as {"loss": 0.1}, {"extra": {"rows": 7}}, {"done": 3, "total": 9}, or
        {"name": "TensorBoard", "url": "https://..."}.
    """
    _print("__RAYAGENT_MESSAGE__ ", {"kind": kind, "data": data})


def print_result(value: object) -> None:
    """Print what becomes ``result`` in the XCom of the Airflow task that runs or follows this job.

    :param value: for JSON; the last result counts.
    """
    _print("__RAYAGENT_RESULT_START__", value, "__RAYAGENT_RESULT_END__")


def _print(start: str, value: object, end: str = "") -> None:
    try:
        text = json.dumps(value, default=_plain)
        if end:
            # In JSON, it can only be a part of a string.
            text = text.replace(end, f"\\u005f{end[1:]}")
        # In one piece, since other threads print as well.
        sys.stdout.write(f"{start}{text}{end}\n")
        sys.stdout.flush()
    # RuntimeError: of PyTorch, for a tensor with more than one number.
    except (TypeError, ValueError, RuntimeError) as error:
        # What cannot be told must not end the job.
        sys.stderr.write(f"Not told to Airflow: {error}\n")


def _plain(value: object) -> object:
    # A number of NumPy or PyTorch has item(); others, such as dates, become text.
    return value.item() if hasattr(value, "item") else str(value)
