"""The ``working_dir`` of a job: a local folder or .zip file, or a URI that Ray downloads itself."""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_rayagent.client.errors import working_dir_error
from airflow_provider_rayagent.client.validation import shown, validate_text

if TYPE_CHECKING:
    from pathlib import Path

SCHEMES = ("abfss", "azure", "file", "gcs", "gs", "http", "https", "s3")
"""Schemes of packages that Ray downloads (``ray/_common/runtime_env_uri.py`` of Ray 2.60). Ray 2.50 has no ``http``.
With ``file``, each node of the cluster reads the package from its own file system."""
IN_PLACE = "local"
"""Scheme of a folder that exists on every node of the cluster, which Ray 2.60 uses in place."""
SUFFIXES = (".zip", ".tar.gz", ".tgz", ".tar.xz")
"""Archives of a working_dir (``ray/_common/runtime_env_package.py`` of Ray 2.60). Ray 2.50 has only ``.zip``."""

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def is_uri(value: str) -> bool:
    """Return whether a ``working_dir`` is a URI rather than a path."""
    return _URI.match(value) is not None


def validate_uri(value: str) -> str:
    """Return a URI if Ray accepts it as ``working_dir``. Whether it exists is only known to the cluster.

    :raises RayAgentInputError: if its scheme is not one of :data:`SCHEMES` or ``local``, or if it does not end with one
        of :data:`SUFFIXES`. The message has no user, password or query, which may be secret.
    """
    validate_text(value, "working_dir")
    scheme = value.partition("://")[0].lower()
    try:
        parts = urlsplit(value)
    except ValueError:
        raise working_dir_error(f"The working_dir is not a valid {shown(scheme)} URI.") from None
    uri = shown(f"{scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    if scheme == IN_PLACE:
        if parts.netloc or not parts.path.startswith("/") or parts.path.endswith(SUFFIXES):
            raise working_dir_error(
                f"The working_dir {uri} must be the absolute path of a folder on the cluster's nodes, such as "
                f"{IN_PLACE}:///srv/project."
            )
        return value
    if scheme not in SCHEMES:
        raise working_dir_error(
            f"Ray cannot download the working_dir {uri}: use one of {', '.join(f'{each}://' for each in SCHEMES)}, or "
            "a path of a folder or .zip file."
        )
    if not (parts.netloc + parts.path).endswith(SUFFIXES):
        raise working_dir_error(f"The working_dir {uri} must be an archive: {', '.join(SUFFIXES)}.")
    return value


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
