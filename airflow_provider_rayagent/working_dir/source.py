"""The ``working_dir`` of a job: a local folder or .zip file."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from airflow_provider_rayagent.errors.service_errors import working_dir_error
from airflow_provider_rayagent.services.validation import shown, validate_text

if TYPE_CHECKING:
    from pathlib import Path


def find_working_dir(value: str, *, dag_folder: Path, root: Path | None) -> Path:
    """Return the resolved path of a folder or .zip file.

    :param value: its path; a relative path is relative to ``dag_folder``.
    :param dag_folder: the folder of the DAG file.
    :param root: the folder of the DAG bundle, in which the path must be; ``None``: anywhere.
    :raises RayAgentInputError: if it does not exist, is outside ``root``, or is neither a folder nor a .zip file.
    """
    name = shown(validate_text(value, "working_dir"))
    path = dag_folder / value
    try:
        found = path.resolve(strict=True)
        is_folder = found.is_dir()
    except FileNotFoundError:
        raise working_dir_error(
            f"The working_dir {name} does not exist. A relative path is relative to the folder of the DAG file, "
            f"{dag_folder}."
        ) from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links, before Python 3.13.
        raise working_dir_error(f"The working_dir {name} cannot be read: {reason(error)}.") from None
    if not is_inside(found, root and root.resolve()):
        raise working_dir_error(f"The working_dir {name} is outside of the DAG bundle, {root}.")
    if not is_folder and not (path.suffix == ".zip" and _is_zip(found, name)):
        raise working_dir_error(f"The working_dir {name} must be a folder or a .zip file; it is neither.")
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
