"""The credentials in a connection: request headers, and a token in a file, which may change at any time."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.connection.admitted_clusters import PLACEHOLDER
from airflow_provider_rayagent.connection.fields import field_name, text_of
from airflow_provider_rayagent.connection.permitted_files import open_regular_file, permitted_path
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.text.secret_parts import header_secrets, is_secret_field

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.connection.admitted_clusters import Address
    from airflow_provider_rayagent.connection.permitted_files import PermittedFolders
    from airflow_provider_rayagent.services.service import Service
    from airflow_provider_rayagent.text.redaction import Redactor

MAX_TOKEN_BYTES = 65_536
REREAD_SECONDS = 1.0
"""A token file is read at most once in this time, however many requests are sent, and after a rejected token. A read
takes some 0.3 milliseconds, most of them to learn where the links in paths lead."""
READ_SECONDS = 2.0
"""Seconds that a request waits for a token file, such as one on a network file system that hangs."""


_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_CONTENT = " It must contain only the token."


@dataclass
class TokenFile:
    """A file with the token. It is read at the first request, and again later, since Kubernetes replaces tokens.

    :param path: absolute path.
    :param header: name of the header with the token.
    :param prefix: prefix of the token in the header.
    :param redact: learns every token.
    :param mask: called with every form of a new token, before the token is used.
    :param folders: where the file must be, whatever links lead there; ``None``: anywhere.
    """

    path: str
    header: str
    prefix: str
    redact: Redactor = field(repr=False, compare=False)
    mask: Callable[[str], object] = field(repr=False, compare=False)
    folders: PermittedFolders | None = None
    headers: Mapping[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    """The header with the last token that was read; empty before."""
    _due: float = field(default=0.0, init=False, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        service: Service,
        token: str | None,
        extra: Mapping[str, Any],
        redact: Redactor,
        mask: Callable[[str], object],
        folders: PermittedFolders | None = None,
        cluster: Address | None = None,
    ) -> TokenFile | None:
        """Return the token file of a connection, or ``None`` if it has none. Does not read it.

        :param cluster: what stands for ``{cluster}`` in its path: KubeRay makes a token for each cluster.
        :raises RayAgentConfigError: if the path is invalid, or the connection has a token as well.
        """
        path = extra.get("token_file")
        if path is None:
            return None
        # The value may be a token in the wrong field, so the messages do not show it.
        if not isinstance(path, str) or not path.startswith("/"):
            raise RayAgentConfigError(
                f"The connection's {field_name('token_file')} must be an absolute path; "
                f"a token itself goes to the {field_name('password')}."
            )
        if token not in (None, ""):
            raise RayAgentConfigError(
                f"The connection has a {field_name('password')} and a {field_name('token_file')}: leave one empty."
            )
        if PLACEHOLDER in path:
            if cluster is None:
                names = f"{field_name('token_file')} has {PLACEHOLDER} in it, but its {field_name('host')}"
                raise RayAgentConfigError(f"The connection's {names} has not.")
            path = path.replace(PLACEHOLDER, str(cluster.host))
        credential = service.credentials[0]
        return cls(path, credential.header, credential.prefix, redact, mask, folders)

    def is_due(self, rejected: Mapping[str, str] | None = None) -> bool:
        """Whether to :meth:`read` the file before a request.

        :param rejected: the :attr:`headers` of a request that was answered with one of :data:`.REJECTED`.
        """
        # If the rejected token is not the current one, another request has read the file since.
        return not self.headers or self.headers == rejected or time.monotonic() >= self._due

    def read(self) -> None:
        """Read the file. Blocks. If that fails later than the first time, the last token remains valid.

        :raises RayAgentConfigError: if the file does not contain a token and never did.
        """
        # Before the reading, so that a file that cannot be read is not tried again with each request.
        self._due = time.monotonic() + REREAD_SECONDS
        try:
            token = self._token()
        except RayAgentConfigError:
            if self.headers:
                return
            raise
        headers = {self.header: self.prefix + token}
        if headers != self.headers:
            # Before other threads can send the token, so that no log shows it.
            for form in self.redact.rotate(header_secrets(self.header, token)):
                self.mask(form)
            self.headers = headers

    @property
    def too_slow(self) -> RayAgentConfigError:
        """The error if the file is not read within :data:`READ_SECONDS`."""
        return RayAgentConfigError(
            f"The connection's {field_name('token_file')} was not read within {READ_SECONDS:g} seconds: {self.path}. "
            "Check the file system that it is on."
        )

    def _token(self) -> str:
        # Before each read, since a link may lead to another file by now, as Kubernetes lets it.
        path = permitted_path(self.folders, "token_file", self.path)
        try:
            with open_regular_file(path) as file:
                content = file.read(MAX_TOKEN_BYTES + 1)
        except FileNotFoundError:
            raise RayAgentConfigError(
                f"The connection's {field_name('token_file')} does not exist: {self.path}. Correct the path, or mount "
                "the file on every worker and triggerer, and on the API server for its Test button."
            ) from None
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise RayAgentConfigError(
                f"The connection's {field_name('token_file')} cannot be read: {self.path}: {reason}. "
                "Correct the path or the file's permissions."
            ) from None
        if len(content) > MAX_TOKEN_BYTES:
            raise RayAgentConfigError(
                f"The connection's {field_name('token_file')} has more than {MAX_TOKEN_BYTES:,} bytes: "
                f"{self.path}.{_CONTENT}"
            )
        try:
            # Editors on Windows write a byte order mark.
            token = content.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            raise RayAgentConfigError(
                f"The connection's {field_name('token_file')} is not UTF-8 text: {self.path}.{_CONTENT}"
            ) from None
        if not token:
            raise RayAgentConfigError(
                f"The connection's {field_name('token_file')} is empty: {self.path}. Write the token into it."
            )
        return _header_value(f"{field_name('token_file')} {self.path}", token, _CONTENT)


def read_headers(service: Service, token: str | None, extra: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Return the headers in the parts of a connection, and the secrets in them.

    :raises RayAgentConfigError: if one is malformed.
    """
    headers = _extra_headers(extra)
    secrets = [part for name, value in headers.items() if is_secret_field(name) for part in header_secrets(name, value)]
    for name, label, prefix, is_secret in service.credentials:
        value = token if label == "password" else extra.get(label)
        if value in (None, ""):
            continue
        text = text_of(value)
        if not isinstance(text, str):
            raise RayAgentConfigError(f"The connection's {field_name(label)} must be text.")
        # Names of headers are case-insensitive (RFC 9110, section 5.1): httpx would send both.
        for other in [other for other in headers if other.lower() == name.lower()]:
            del headers[other]
        headers[name] = _header_value(field_name(label), prefix + text)
        if is_secret:
            secrets += header_secrets(name, text)
    return headers, secrets


def _extra_headers(extra: Mapping[str, Any]) -> dict[str, str]:
    value = extra.get("headers", {})
    called = field_name("headers")
    # The form's field for headers is text of several lines.
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise RayAgentConfigError(f'The connection\'s {called} are not JSON: use {{"Name": "value"}}.') from None
    if not isinstance(value, Mapping):
        raise RayAgentConfigError(f'The connection\'s {called} must be a JSON object: {{"Name": "value"}}.')
    headers = {}
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise RayAgentConfigError(f"The connection's {called} contain an invalid name: {name!r}.")
        if not isinstance(text, str):
            raise RayAgentConfigError(f"The value of the connection's header {name!r} must be text.")
        headers[name] = _header_value(f"header {name!r}", text)
    return headers


def _header_value(name: str, value: str, remedy: str = "") -> str:
    try:
        # As http.client encodes headers, and ``transport/aio.py`` for httpx.
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise RayAgentConfigError(
            f"The connection's {name} has a character that a header cannot carry.{remedy}"
        ) from None
    # Outer spaces are not part of a value (RFC 9110, section 5.5), and requests refuses one that begins with a space.
    if _BAD_VALUE.search(value) or value != value.strip():
        raise RayAgentConfigError(
            f"The connection's {name} has a line break, control character or outer space.{remedy}"
        )
    return value
