"""Whether the log file that a trigger wrote becomes part of the finished task's log.

A triggerer writes a file for each trigger into its ``[logging] base_log_folder``. The log of a finished task
(``FileTaskHandler._read`` in ``airflow/utils/log/file_task_handler.py``) consists of

- with remote logs: what is in the remote store, and nothing else. Airflow uploads a trigger's file when that trigger
  has ended by itself or was canceled (``TriggerRunnerSupervisor._handle_request`` in
  ``airflow/jobs/triggerer_job_runner.py``), but not when its triggerer shuts down or dies. Uploading it from here is
  not an option: ``RemoteLogIO.upload`` appends to what is there, holds the whole file in memory, and may delete the
  folder in which the successor writes.
- otherwise: the files in the API server's own log folder; if it has none, the worker's file over its log server.
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
"""A file in a log folder with a random id: where two processes find the same one, they use the same folder."""


def storage_of(storage: LogStorage, folder: str | None) -> LogStorage:
    """Return how log files are kept: as told, or by what there is to see here.

    Blocks: it may load Airflow's providers.

    :param folder: what :func:`log_folder_id` gave the trigger in question; ``None``: not known.
    """
    if storage != "auto":
        return storage
    if _uploads_logs():
        return "remote"
    return "shared" if folder is None or folder == log_folder_id() else "separate"


@cache
def log_folder_id() -> str | None:
    """Return what identifies the disk behind this process's log folder, ``None`` if that can't be had. Blocks.

    Its path and the host's name do not: a pod that is replaced has the same ones, and an empty disk.
    """
    from airflow.sdk.configuration import conf

    path = Path(conf.get("logging", "base_log_folder")) / MARKER
    with contextlib.suppress(OSError, ValueError):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                _create(path, uuid.uuid4().hex)
        # A cleanup of old log files leaves alone what was used lately.
        with contextlib.suppress(PermissionError):
            os.utime(path)
        return uuid.UUID(path.read_text(encoding="ascii")).hex
    return None


def _create(path: Path, text: str) -> None:
    """Create a file that is never seen half written.

    :raises FileExistsError: if there is one.
    """
    part = path.with_name(f"{path.name}.{text}")
    part.write_text(text, encoding="ascii")
    try:
        os.link(part, path)
    finally:
        part.unlink()


def _uploads_logs() -> bool:
    from airflow.sdk.configuration import conf

    try:
        from airflow.sdk.log import load_remote_log_handler

        return load_remote_log_handler() is not None
    except Exception:  # noqa: BLE001 - a module of the user's may be behind it; Airflow says what is wrong with it
        return bool(conf.getboolean("logging", "remote_logging", fallback=False))
