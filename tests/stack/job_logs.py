"""Logs of jobs without what Ray itself writes, which may come before, behind or within a line of the program.

Ray's supervisor of a job opens the job's log, starts the program with the log as its output, and writes a line to the
log only when it closes it (`_exec_entrypoint` in Ray's `dashboard/modules/job/job_supervisor.py`). On a busy machine
the program has printed by then, or has ended.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

AFTER_RAY = """
import os, time
log = os.readlink("/proc/self/fd/1")
supervisor = open(f"/proc/{os.getsid(0)}/stat").read().rpartition(")")[2].split()[1]
def is_open_in_supervisor():
    for descriptor in os.listdir(f"/proc/{supervisor}/fd"):
        try:
            if os.readlink(f"/proc/{supervisor}/fd/{descriptor}") == log:
                return True
        except OSError:
            pass  # it has just been closed
    return False
while is_open_in_supervisor():
    time.sleep(0.05)
"""
"""The beginning of a Python program that goes on once Ray has written what it writes.

For a program whose output must not be torn: one that prints parts of a character, or a progress bar.
"""

MESSAGE_KEY = "at"
"""Key of the XCom that a job sets."""
PRINT_MESSAGE = (
    "print('__RAYAGENT_MESSAGE__ ' + json.dumps({'kind': 'xcom', 'data': {'" + MESSAGE_KEY + "': number}}), flush=True)"
)
"""A statement that sets it to a number, in a Python program that has imported ``json``."""


def last_message(lines: Iterable[str]) -> int | None:
    """Return the number in the last message among the lines of a job, ``None`` if there is none."""
    messages = [line for line in lines if line.startswith("__RAYAGENT_MESSAGE__ ")]
    number: int | None = json.loads(messages[-1].split(" ", 1)[1])["data"][MESSAGE_KEY] if messages else None
    return number


def without_lines_of_ray(log: str, job: Mapping[str, Any]) -> str:
    """Return the log of a job as its program has written it.

    :param job: the job's details on Ray.
    """
    begins = re.escape(f"Running entrypoint for job {job['submission_id']}: {job['entrypoint']}")
    return re.sub(rf"^[^\n]* -- Runtime env is setting up\.(?:\n|\Z)|{begins}(?:\n|\Z)", "", log, flags=re.MULTILINE)


def lines_of_program(lines: Iterable[str], job: Mapping[str, Any]) -> list[str]:
    """Return those of a log's lines that a job's program has written; see :func:`without_lines_of_ray`."""
    text = without_lines_of_ray("".join(f"{line}\n" for line in lines), job)
    return text.removesuffix("\n").split("\n") if text else []
