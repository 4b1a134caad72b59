"""The file that says where the agent is and what its token is: there while the agent runs, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError
from airflow_provider_rayagent.local.files import regular_file, write_private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def info_file(path: Path, text: str) -> Iterator[None]:
    """Write a file that only its owner may read, and remove it at the block's end; it appears whole or not at all.

    It is locked as long as it is there. A process that is killed loses the lock, which tells that its file was left.

    :raises LocalAgentError: if it cannot be written, or is that of another agent that runs.
    """
    remove_if_left(path)
    write_private(path, text)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            _remove(path, file.fileno())


def remove_if_left(path: Path) -> None:
    """Remove the file if its agent runs no more.

    :raises LocalAgentError: if its agent runs.
    """
    with contextlib.suppress(OSError), regular_file(path) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LocalAgentError(f"{path} is the info file of a local agent that runs: name another.") from None
        _remove(path, file.fileno())


def _remove(path: Path, descriptor: int) -> None:
    """Remove a file if it is still the one that is open."""
    with contextlib.suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            path.unlink()
