"""Files that only their owner may read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError

if TYPE_CHECKING:
    from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it appears whole or not at all.

    :raises LocalAgentError: if it cannot be written.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise LocalAgentError(f"Cannot write {path}: {error.strerror}") from error
