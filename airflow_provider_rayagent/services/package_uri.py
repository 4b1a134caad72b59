"""The URI of a job's ``working_dir``, which Ray downloads itself. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from airflow_provider_rayagent.errors.service_errors import working_dir_error
from airflow_provider_rayagent.services.validation import shown, validate_text

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
    # In the URI of an uploaded package, the name is the host: ``gcs://name.zip``.
    if not (parts.netloc + parts.path).endswith(SUFFIXES):
        raise working_dir_error(f"The working_dir {uri} must be an archive: {', '.join(SUFFIXES)}.")
    return value
