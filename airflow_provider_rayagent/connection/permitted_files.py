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
    from collections.abc import Iterable
    from typing import BinaryIO

SECTION = "rayagent"
"""The provider's section of Airflow's configuration."""
TOKEN_FOLDERS, TLS_FOLDERS, API_SERVER_FOLDERS = "token_folders", "tls_folders", "api_server_folders"
_FOR_RAY = "/var/run/secrets/ray, /run/secrets/ray, /vault/secrets, /mnt/secrets-store"
"""Where secrets are mounted: by Kubernetes and Docker as in ``docs/connection.md``, by Vault and by the CSI driver."""
_OF_THE_SYSTEM = "/etc/ssl, /etc/pki, /usr/local/share/ca-certificates, /usr/share/ca-certificates"
"""Where Debian, Red Hat and Alpine keep certificates; links in the first folder lead into the others."""
FOLDERS = {TOKEN_FOLDERS: _FOR_RAY, TLS_FOLDERS: f"{_OF_THE_SYSTEM}, {_FOR_RAY}", API_SERVER_FOLDERS: ""}
"""The options with folders, and their defaults."""

_IDENTITY_FOLDERS = tuple(
    f"{parent}/{name}"
    for parent in ("/var/run", "/run")  # One leads to the other on most systems, but not in every image.
    for name in (
        # Kubernetes: ``DefaultAPITokenMountPath`` in ``plugin/pkg/admission/serviceaccount/admission.go``.
        "secrets/kubernetes.io",
        # OpenShift: tokens for clouds (``docs/sts.md`` of cloud-credential-operator).
        "secrets/openshift",
        # EKS: IRSA (``main.go`` of amazon-eks-pod-identity-webhook) and Pod Identity (its user guide).
        "secrets/eks.amazonaws.com",
        "secrets/pods.eks.amazonaws.com",
        # AKS: ``pkg/webhook/consts.go`` of azure-workload-identity.
        "secrets/azure",
        # GKE fleets ("Authenticate to Google Cloud APIs from fleet workloads"), and Istio (``manifests/charts``).
        "secrets/tokens",
        # Certificates and keys of workloads: GKE (``X509Provider`` of google-auth-library-java), and Istio.
        "secrets/workload-spiffe-credentials",
        "secrets/workload-spiffe-uds",
        # Google's "Configure Workload Identity Federation with Kubernetes".
        "service-account",
    )
)
_IDENTITY_VARIABLES = (
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AZURE_FEDERATED_TOKEN_FILE",
    "GOOGLE_APPLICATION_CREDENTIALS",
)
"""Environment variables that name a file with the identity."""


@dataclass(frozen=True)
class PermittedFolders:
    """The folders that the files must be in, at any depth.

    :param paths: the folders as the option names them; each must be an absolute path.
    :param option: the option of Airflow that names the folders, for messages.
    """

    paths: tuple[str, ...]
    option: str


def permitted_path(folders: PermittedFolders | None, field: str, path: str) -> str:
    """Return the path, without symbolic links, of a file that may be opened.

    :param folders: where the file must be; ``None``: anywhere, except where the identity of the pod is.
    :param field: the field of the connection that names the file.
    :raises RayAgentConfigError: if the file is not in one of the folders, a link leads out of them, it belongs to the
        identity of the pod, or one of the folders is not an absolute path.
    """
    refused = f"The connection's {field_name(field)} may not be opened here: {path}."
    resolved = _resolve(path)
    if resolved is not None and _is_identity(resolved):
        raise RayAgentConfigError(
            f"{refused} It belongs to the identity of this pod or machine, which is used for no connection. Mount a "
            "file for the service into another folder, such as a projected token."
        )
    if folders is not None:
        # Each component of Airflow runs in another folder.
        if relative := [folder for folder in folders.paths if not folder.startswith("/")]:
            raise RayAgentConfigError(
                f"Airflow's option {folders.option} must name absolute paths, not {', '.join(relative)}."
            )
        if resolved is None or not _is_in(folders.paths, resolved):
            # Whether there is such a file is not told.
            where = f"one of {', '.join(folders.paths)}" if folders.paths else "a folder named there, and none is"
            raise RayAgentConfigError(
                f"{refused} With Airflow's option {folders.option}, it must be in {where}; "
                "links must not lead out of it."
            )
    # Opened instead of the given path, whose links may lead elsewhere by then.
    return path if resolved is None else str(resolved)


def _resolve(path: str) -> Path | None:
    """Return the path without symbolic links, or ``None`` if that is not possible."""
    # ValueError: it has a character that no file name can have. OSError: a link may not be read, such as /proc/1/root.
    with suppress(ValueError, OSError):
        resolved = os.path.realpath(path)
        # Behind a link that leads to itself, Python 3.11 resolves ``..`` but no other link.
        if os.path.realpath(resolved) == resolved:
            return Path(resolved)
    return None


def _is_identity(resolved: Path) -> bool:
    # After the file: if Kubernetes replaces a token in between, the file is the previous one, which it removes.
    named = (os.environ.get(name) for name in _IDENTITY_VARIABLES)
    return _is_in((*_IDENTITY_FOLDERS, *filter(None, named)), resolved)


def _is_in(folders: Iterable[str], resolved: Path) -> bool:
    # A folder may be a link itself: /var/run leads to /run on most systems.
    return any(resolved.is_relative_to(os.path.realpath(folder)) for folder in folders)


def path_for_library(folders: PermittedFolders | None, field: str, path: str) -> str:
    """Return what :func:`permitted_path` does, for a library, which opens whatever it is.

    :raises RayAgentConfigError: as well if it is a pipe or device, which could block the library.
    """
    resolved = permitted_path(folders, field, path)
    # A CA bundle may be a folder of certificates (``verify`` of requests). There, OpenSSL opens only files whose names
    # are hashes of subjects, and none in folders below (X509_LOOKUP_hash_dir(3)): not those of an identity.
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
