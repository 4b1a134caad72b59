"""The token that a Ray cluster requires: where to find it, and when to send it.

Ray supports tokens from 2.52 on. A cluster has one token, for its dashboard, its control service and its nodes.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError, RayTokenError
from airflow_provider_rayagent.local.token_check import check_token
from airflow_provider_rayagent.services.agent_service import AUTHORIZATION_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    """

    value: str = field(repr=False)
    source: str


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
        with contextlib.suppress(OSError):
            if found := _make_token(_first_line(each), str(each)):
                return found
    return None


class RayCredentials:
    """Provides the token once Ray has required one.

    The token is looked up for each request, so a renewed token is used from the next request on.

    :param find: returns the token, ``None`` if there is none; may raise :class:`RayTokenError`.
    :ivar asked: whether Ray has required a token.
    """

    def __init__(self, find: Callable[[], RayToken | None]) -> None:
        self._find = find
        self.asked = False

    def headers(self) -> dict[str, str]:
        """Return the headers of a request to Ray, without a token if there is none; :meth:`refusal` explains why."""
        with contextlib.suppress(RayTokenError):
            if self.asked and (token := self._find()):
                # Ray requires exactly this spelling of the scheme.
                return {AUTHORIZATION_HEADER: f"Bearer {token.value}"}
        return {}

    def refusal(self, url: str) -> RayTokenError:
        """Return the error for a request that Ray rejected because of a wrong or missing token."""
        try:
            token = self._find()
        except RayTokenError as error:
            return error
        if token is None:
            return RayTokenError(
                f"Ray at {url} requires a token, but none was found: use --ray-token-file, set {TOKEN} or "
                f"{TOKEN_PATH}, or write it to ~/.ray/auth_token."
            )
        return RayTokenError(f"Ray at {url} rejects the token from {token.source}.")


def _read_token_file(path: Path, source: str) -> RayToken:
    try:
        token = _make_token(_first_line(path), source)
    except OSError as error:
        raise RayTokenError(f"Cannot read the Ray token from {source}: {error.strerror}.") from error
    if token is None:
        raise RayTokenError(f"Cannot read the Ray token from {source}: its first line is empty.")
    return token


def _make_token(text: str, source: str) -> RayToken | None:
    """Return the token without surrounding whitespace, ``None`` if it is empty."""
    text = text.strip()
    try:
        return RayToken(check_token(text), source) if text else None
    except LocalAgentError as error:
        raise RayTokenError(f"Cannot use the Ray token from {source}. {error}") from error


def _first_line(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
