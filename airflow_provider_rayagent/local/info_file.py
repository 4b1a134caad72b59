"""The info file with the agent's URL and token, which exists only while the agent runs, even if it is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from airflow_provider_rayagent.connection.permitted_files import open_regular_file
from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.files import write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def info_file(path: Path, text: str) -> Iterator[None]:
    """Write a file atomically that only its owner can read, and remove it at the end of the block.

    The file is locked while it exists. A process that is killed releases the lock, which marks its file as stale.

    :raises LocalAgentError: if it cannot be written, or belongs to another running agent.
    """
    remove_if_stale(path)
    write_private(path, text)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            _remove(path, file.fileno())


def remove_if_stale(path: Path) -> None:
    """Remove the file if its agent is no longer running.

    :raises LocalAgentError: if its agent is running.
    """
    with contextlib.suppress(OSError), open_regular_file(str(path)) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalAgentError(f"{path} is the info file of a running local agent. Choose another.") from None
        _remove(path, file.fileno())


def _remove(path: Path, descriptor: int) -> None:
    """Remove a file if the path still refers to the open file."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            path.unlink()
