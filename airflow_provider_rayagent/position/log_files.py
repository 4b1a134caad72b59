"""Find out whether a trigger's log file becomes part of the finished task's log.

A triggerer writes a file for each trigger into its ``[logging] base_log_folder``. The log of a finished task
(``FileTaskHandler._read`` in ``airflow/utils/log/file_task_handler.py``) consists of

- with remote logs: only what is in the remote store. Airflow uploads a trigger's file when the trigger ends by itself
  or is canceled (``TriggerRunnerSupervisor._handle_request`` in ``airflow/jobs/triggerer_job_runner.py``), but not when
  its triggerer shuts down or dies. Uploading it here is not an option: ``RemoteLogIO.upload`` appends to the stored
  log, holds the whole file in memory, and may delete the folder in which the next trigger writes.
- otherwise: the files in the API server's log folder or, if there are none, the worker's file from its log server.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from functools import cache
from pathlib import Path
from typing import Literal

LogStorage = Literal["auto", "shared", "remote", "separate"]
LOG_STORAGES: tuple[LogStorage, ...] = ("auto", "shared", "remote", "separate")
MARKER = ".airflow_provider_rayagent"
"""Name of a file with a random id in the log folder: two processes that read the same id share the folder."""


def storage_of(storage: LogStorage, folder: str | None) -> LogStorage:
    """Return how log files are stored: ``storage`` itself or, for ``auto``, what this process can detect.

    Blocks: it may load Airflow's providers.

    :param folder: the :func:`log_folder_id` of the trigger that wrote the file; ``None``: unknown.
    """
    if storage != "auto":
        return storage
    # Before the folders are compared: with remote logs, a finished task's log does not come from a folder.
    if _uploads_logs():
        return "remote"
    return "shared" if folder is None or folder == log_folder_id() else "separate"


@cache
def log_folder_id() -> str | None:
    """Return an id of this process's log folder, ``None`` if it cannot be read or created. Blocks.

    Path and host name do not identify it: a replaced pod has the same ones, and an empty disk.
    """
    from airflow.sdk.configuration import conf

    path = Path(conf.get("logging", "base_log_folder")) / MARKER
    with contextlib.suppress(OSError, ValueError):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Another process may be faster; then its id counts.
            with contextlib.suppress(FileExistsError):
                _create(path, uuid.uuid4().hex)
        # Keep the file from jobs that delete old log files.
        with contextlib.suppress(PermissionError):
            os.utime(path)
        # Anything but an id, such as an empty file, is a ValueError.
        return uuid.UUID(path.read_text(encoding="ascii")).hex
    return None


def _create(path: Path, text: str) -> None:
    """Create a file atomically: no other process sees it half written.

    :raises FileExistsError: if it exists.
    """
    part = path.with_name(f"{path.name}.{text}")
    part.write_text(text, encoding="ascii")
    try:
        # Unlike os.replace(), it fails if another process has created the file meanwhile.
        os.link(part, path)
    finally:
        part.unlink()


def _uploads_logs() -> bool:
    from airflow.sdk.configuration import conf

    try:
        from airflow.sdk.log import load_remote_log_handler

        return load_remote_log_handler() is not None
    except Exception:  # noqa: BLE001 - it may import a module of the user; Airflow itself reports the error
        return bool(conf.getboolean("logging", "remote_logging", fallback=False))
