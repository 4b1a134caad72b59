"""Which files may be opened because a connection names them.

Whoever edits connections names any path and any host, which the content of a token file is sent to.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError

if TYPE_CHECKING:
    from typing import BinaryIO

SECTION = "rayagent"
"""The provider's section of Airflow's configuration."""
TOKEN_FOLDERS, API_SERVER_FOLDERS = "token_folders", "api_server_folders"
FOLDERS = {TOKEN_FOLDERS: "/var/run/secrets, /run/secrets, /vault/secrets, /mnt/secrets-store", API_SERVER_FOLDERS: ""}
"""The options with folders, and their defaults: where Kubernetes, Docker, Vault and the CSI driver mount secrets."""


@dataclass(frozen=True)
class PermittedFolders:
    """The folders that the files must be in, at any depth.

    :param paths: absolute paths.
    :param option: the option of Airflow that names the folders, for messages.
    """

    paths: tuple[str, ...]
    option: str


def permitted_path(folders: PermittedFolders | None, field: str, path: str) -> str:
    """Return the path of a file that may be opened.

    :param folders: where the file must be, the path is then without symbolic links; ``None``: anywhere.
    :param field: the field of the connection that names the file.
    :raises RayAgentConfigError: if the file is not in one of the folders, or a link leads out of them.
    """
    if folders is None:
        return path
    with suppress(ValueError):  # It has a null character, or one that no file name can have.
        resolved = Path(os.path.realpath(path))
        # A folder may be a link itself: /var/run leads to /run on most systems.
        if any(resolved.is_relative_to(os.path.realpath(folder)) for folder in folders.paths):
            # Opened instead of the given path, whose links may lead elsewhere by then.
            return str(resolved)
    # Whether there is such a file is not told.
    where = f"one of {', '.join(folders.paths)}" if folders.paths else "a folder named there, and none is"
    raise RayAgentConfigError(
        f"The connection's {field_name(field)} may not be opened here: {path}. With Airflow's option "
        f"{folders.option}, it must be in {where}; links must not lead out of it."
    )


def path_for_library(folders: PermittedFolders | None, field: str, path: str) -> str:
    """Return what :func:`permitted_path` does, for a library, which opens whatever it is.

    :raises RayAgentConfigError: as well if it is a pipe or device, which could block the library.
    """
    resolved = permitted_path(folders, field, path)
    # A CA bundle may be a folder of certificates (``verify`` of requests).
    if os.path.exists(resolved) and not (os.path.isfile(resolved) or os.path.isdir(resolved)):  # noqa: PTH110,PTH112,PTH113
        raise RayAgentConfigError(f"The connection's {field_name(field)} is not a file: {path}.")
    return resolved


def open_regular_file(path: str) -> BinaryIO:
    """Open a file for reading, unless it is a folder, pipe or device.

    :raises OSError: if it cannot be opened, or is no regular file.
    """
    # Without O_NONBLOCK, to open a pipe that nobody writes to blocks for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    # Of the descriptor, since the path may be that of another file by now.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(None, "not a regular file")
    return os.fdopen(descriptor, "rb")
