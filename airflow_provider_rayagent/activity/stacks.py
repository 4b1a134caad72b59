"""The Python stack of a process, as py-spy prints it (``py-spy dump``). Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_FRAMES = 20
"""Innermost frames that are shown."""
MAX_FRAME = 200
_THREAD = re.compile(r'Thread \S+ \([^)]*\)(?:: "(?P<name>.*)")?\s*$')
_RAYS_THREAD = re.compile(r"PythonGCThread$|ray_|AsyncIO Thread")
"""Begins the names of threads that Ray starts in each process (``_private/gc_collect_manager.py``,
``_private/worker.py``), and of those in which coroutines run: what these wait for is no frame of a thread."""
_RAYS_FRAME = re.compile(r".* \(ray/_private/")


def shown_stack(text: str, redact: Callable[[str], str]) -> list[str]:
    """Return the frames of the program's threads, the innermost first, without Ray's own around them.

    :param text: what py-spy has printed.
    """
    shown: list[str] = []
    # Redacted before it is split, since a secret can have several lines.
    for name, frames in _threads(redact(text)):
        while frames and _RAYS_FRAME.match(frames[-1]):
            del frames[-1]
        if frames and not _RAYS_THREAD.match(name):
            shown += [*([] if name in ("MainThread", "") else [f"in the thread {name}:"]), *frames]
    return [sanitize(line, length=MAX_FRAME) for line in shown[:MAX_FRAMES]]


def _threads(text: str) -> list[tuple[str, list[str]]]:
    """Return the names and frames of threads."""
    threads: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if found := _THREAD.match(line):
            threads.append((found["name"] or "", []))
        elif threads and line.startswith("    "):
            threads[-1][1].append(line.strip())
    return threads
