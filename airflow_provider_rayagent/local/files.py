"""Private files, and the end of a file."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO


def write_private(path: Path, text: str) -> None:
    """Write a file atomically that only its owner can read.

    :raises LocalAgentError: if it cannot be written.
    """
    # In the same folder, since a rename is atomic only within a file system.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # Private from the beginning, and with O_EXCL never through a link that another user has put there.
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise LocalAgentError(f"Cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def private_file(path: Path, text: str) -> Iterator[None]:
    """Write a file that only its owner can read, and remove it at the end of the block.

    :raises LocalAgentError: if it cannot be written.
    """
    write_private(path, text)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def last_lines(file: BinaryIO, count: int) -> list[str]:
    """Return the last lines of a file, each truncated to its last 500 characters."""
    size = file.seek(0, os.SEEK_END)
    # Logs of Ray can be large: no more is read than can be shown.
    file.seek(max(0, size - count * 500))
    lines = file.read().decode("utf-8", "replace").splitlines()
    return [line[-500:] for line in lines[-count:]]
