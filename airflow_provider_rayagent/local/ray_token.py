"""The token that a Ray cluster requires: where to find it.

Ray supports tokens from 2.52 on. A cluster has one token, for its dashboard, its control service and its nodes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError, RayTokenError
from airflow_provider_rayagent.local.token_check import check_token

if TYPE_CHECKING:
    from collections.abc import Mapping

MODE, TOKEN, TOKEN_PATH, KUBERNETES = (
    "RAY_AUTH_MODE",
    "RAY_AUTH_TOKEN",
    "RAY_AUTH_TOKEN_PATH",
    "RAY_ENABLE_K8S_TOKEN_AUTH",
)
AUTH_VARIABLES = (MODE, TOKEN, TOKEN_PATH, KUBERNETES)
"""Environment variables that determine whether a Ray process requires or sends a token, and which one."""

_KUBERNETES_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


@dataclass(frozen=True)
class RayToken:
    """A token.

    :param source: where it was found, for error messages.
    :param file: the file that contains it, if it does not come from an environment variable.
    """

    value: str = field(repr=False)
    source: str
    file: Path | None = None


def find_token(file: Path | None, environment: Mapping[str, str]) -> RayToken | None:
    """Return the token in ``file``, or by default the token that Ray's own tools use.

    The order is that of Ray's ``src/ray/rpc/authentication/authentication_token_loader.cc``: the environment variable
    with the token, the one with a path, the Kubernetes service account, the home directory.

    :raises RayTokenError: if the token, or the specified file, cannot be used.
    """
    if file is not None:
        return _read_token_file(file, f"--ray-token-file {file}")
    if token := environment.get(TOKEN):
        return _make_token(token, TOKEN)
    if path := environment.get(TOKEN_PATH):
        return _read_token_file(Path(path), f"{TOKEN_PATH}={path}")
    defaults = [Path(environment.get("HOME") or Path.home(), ".ray", "auth_token")]
    if environment.get(KUBERNETES, "").lower() in ("1", "true"):
        defaults.insert(0, _KUBERNETES_FILE)
    for each in defaults:
        # Usually there is no such file. A path that the user specified must exist.
        with contextlib.suppress(OSError):
            if found := _make_token(_text(each), str(each), each):
                return found
    return None


def missing_token(url: str) -> RayTokenError:
    """Return the error for a Ray that requires a token if there is none."""
    return RayTokenError(
        f"Ray at {url} requires a token, but none was found: use --ray-token-file, set {TOKEN} or {TOKEN_PATH}, or "
        "write it to ~/.ray/auth_token."
    )


def rejected_token(url: str, token: RayToken) -> RayTokenError:
    """Return the error for a wrong token."""
    return RayTokenError(f"Ray at {url} rejects the token from {token.source}.")


def _read_token_file(path: Path, source: str) -> RayToken:
    try:
        token = _make_token(_text(path), source, path)
    except OSError as error:
        raise RayTokenError(f"Cannot read the Ray token from {source}: {error.strerror}.") from error
    if token is None:
        raise RayTokenError(f"Cannot read the Ray token from {source}: the file is empty.")
    return token


def _make_token(text: str, source: str, file: Path | None = None) -> RayToken | None:
    """Return the token without surrounding whitespace, ``None`` if it is empty."""
    text = text.strip()
    try:
        return RayToken(check_token(text), source, file) if text else None
    except LocalAgentError as error:
        raise RayTokenError(f"Cannot use the Ray token from {source}. {error}") from error


def _text(path: Path) -> str:
    # The replacement character is not ASCII, so :func:`check_token` reports an invalid byte like any other.
    return path.read_text(encoding="utf-8", errors="replace")
