"""The ``working_dir`` of a job: a local folder or .zip file."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import working_dir_error
from airflow_provider_rayagent.services.validation import shown, validate_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from airflow_provider_rayagent.errors.service_errors import RayAgentError


def find_working_dir(value: str, *, dag_folder: Path, root: Path | None) -> Path:
    """Return the resolved path of a folder or .zip file.

    :param value: its path; a relative path is relative to ``dag_folder``.
    :param dag_folder: the folder of the DAG file.
    :param root: the folder of the DAG bundle, in which the path must be; ``None``: anywhere.
    :raises RayAgentInputError: if it does not exist, is outside ``root``, or is neither a folder nor a .zip file.
    """
    name = shown(validate_text(value, "working_dir"))
    found = find_beside_dag(value, "working_dir", working_dir_error, dag_folder=dag_folder, root=root)
    if not found.is_dir() and not ((dag_folder / value).suffix == ".zip" and _is_zip(found, name)):
        raise working_dir_error(f"The working_dir {name} must be a folder or a .zip file; it is neither.")
    return found


def find_beside_dag(
    value: str, what: str, error_of: Callable[[str], RayAgentError], *, dag_folder: Path, root: Path | None
) -> Path:
    """Return the resolved path of a file or folder of the DAG bundle; see :func:`find_working_dir`.

    :param what: the argument with the path, for messages.
    :param error_of: returns the error with a message.
    :raises RayAgentError: if it does not exist, or is outside ``root``.
    """
    name = shown(validate_text(value, what))
    try:
        found = (dag_folder / value).resolve(strict=True)
    except FileNotFoundError:
        raise error_of(
            f"The {what} {name} does not exist. A relative path is relative to the folder of the DAG file, "
            f"{dag_folder}."
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links, before Python 3.13.
        raise error_of(f"The {what} {name} cannot be read: {reason(error)}.") from None
    if not is_inside(found, root and root.resolve()):
        raise error_of(f"The {what} {name} is outside of the DAG bundle, {root}.")
    return found


def is_inside(path: Path, root: Path | None) -> bool:
    """Return whether a resolved path is ``root`` or in it, resolved as well; ``None`` has everything in it."""
    return root is None or path.is_relative_to(root)


def reason(error: OSError | RuntimeError) -> str:
    """Return the cause of an error of the file system, without the path."""
    return (isinstance(error, OSError) and error.strerror) or "a loop of symbolic links"


def _is_zip(path: Path, name: str) -> bool:
    try:
        # is_zipfile() takes a file that cannot be read for one that is not a zip.
        with path.open("rb") as file:
            return zipfile.is_zipfile(file)
    except OSError as error:
        raise working_dir_error(f"The working_dir {name} cannot be read: {reason(error)}.") from None
