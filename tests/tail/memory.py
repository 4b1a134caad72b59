"""The memory of this process. Imports only the standard library, so that it does not add to what is measured."""

from __future__ import annotations

from pathlib import Path

WARM_LINES = 200_000
"""Lines of a log after which its reader's memory must not grow."""


def peak_memory() -> int:
    """Return the peak resident set size in KB; ``getrusage`` would include the parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
