"""The URL of the service in a connection. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from airflow_provider_rayagent.connection.admitted_clusters import (
    MAX_PORT,
    PLACEHOLDER,
    admitted,
    is_loopback_name,
    refused,
    validate_host_name,
)
from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.text.codes import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.connection.admitted_clusters import Address, Entry
    from airflow_provider_rayagent.services.service import Service


@dataclass(frozen=True)
class ServiceUrl:
    """The URL of one service, or with the placeholder ``{cluster}`` that of several.

    :param host: in lower case; an IPv6 address without brackets.
    :param path: begins and ends with a slash.
    """

    scheme: str
    host: str
    port: int | None
    path: str

    def admitted(self, cluster: object, entries: Sequence[Entry]) -> Address | None:
        """Return the cluster that the URL is to be filled with, ``None`` if it has no placeholder.

        :param cluster: the argument of a task; ``None``: it has none.
        :param entries: the values that the connection admits.
        :raises RayAgentConfigError: if the value is refused, or one of value and placeholder is missing.
        """
        called = field_name("host")
        if PLACEHOLDER not in self.host + self.path:
            if cluster is None:
                return None
            raise refused(cluster, f"the connection's {called} has no {PLACEHOLDER} in it")
        if cluster is None:
            raise RayAgentConfigError(
                f"The connection's {called} has {PLACEHOLDER} in it: name the cluster, by the "
                "argument cluster of a task, the option --cluster, or for the test the field Test cluster.",
                code=Code.CLUSTER_REFUSED,
            )
        address = admitted(cluster, entries, is_whole_host=self.host == PLACEHOLDER)
        if PLACEHOLDER in self.host and self.host != PLACEHOLDER:
            try:
                name = validate_host_name(self._host_of(address))
            except ValueError as error:
                raise refused(cluster, str(error)) from None
            if is_loopback_name(name):
                raise refused(cluster, f"{name} is this machine")
        return address

    def filled(self, address: Address | None) -> str:
        """Return the URL with an admitted value, ending with a slash."""
        host, port, path = self.host, self.port, self.path
        if address is not None:
            host, port = self._host_of(address), address.port or port
            path = path.replace(PLACEHOLDER, str(address.host))
        netloc = f"[{host}]" if ":" in host else host
        return urlunsplit((self.scheme, netloc if port is None else f"{netloc}:{port}", path, "", ""))

    def _host_of(self, address: Address) -> str:
        return self.host.replace(PLACEHOLDER, str(address.host).lower())


def read_service_url(host: str | None, port: object, schema: str | None, service: Service) -> ServiceUrl:
    """Return the URL in the parts of a connection.

    The parameters are those of :func:`.read_config`.

    :raises RayAgentConfigError: if a part is missing or malformed; the message has no password.
    """
    called = field_name("host")
    text = (host or "").strip()
    if not text:
        raise RayAgentConfigError(
            f"The connection has no {called}: enter that of {service.label}, such as https://{service.name}.example.com."
        )
    has_password = RayAgentConfigError(
        f"The connection's {called} contains a user name or password; put the token into the {field_name('password')}."
    )
    # Before anything else, since the messages about other mistakes show the host.
    if re.match(r"[^/?#]*(//)?[^/?#]*@", text):
        raise has_password
    if "://" not in text:
        scheme = (schema or "http").strip().lower()
        bare_ipv6 = text.count(":") > 1 and not text.startswith("[")
        text = f"{scheme}://[{text}]" if bare_ipv6 else f"{scheme}://{text}"
    try:
        parts = urlsplit(text)
        number = parts.port
    except ValueError as error:
        if "@" in text:  # A password with a character that ends the host of a URL.
            raise has_password from None
        raise RayAgentConfigError(f"The connection's {called} {host!r} is not a valid URL: {error}.") from None
    if parts.scheme not in ("http", "https"):
        raise RayAgentConfigError(
            f"The scheme of the connection's {called} must be http or https, not {parts.scheme!r}."
        )
    if parts.query or parts.fragment:
        raise RayAgentConfigError(f"The connection's {called} must be a URL without '?' and '#'.")
    name = parts.hostname
    # In the text and not in its parts, from which urlsplit() has removed tabs and line breaks.
    if not name or re.search(r"[\s\x00-\x20\\%]", text):
        raise RayAgentConfigError(f"The connection's {called} {host!r} is not a host name or URL.")
    _check_placeholders(called, text, name, parts.path)
    return ServiceUrl(parts.scheme, name, _port(port if number is None else number), parts.path.rstrip("/") + "/")


def _check_placeholders(called: str, url: str, host: str, path: str) -> None:
    if re.search("[{}]", url.replace(PLACEHOLDER, "")):
        raise RayAgentConfigError(f"The connection's {called} {url!r} has braces; only {PLACEHOLDER} is filled in.")
    if host == PLACEHOLDER and PLACEHOLDER in path:
        raise RayAgentConfigError(f"The connection's {called} has {PLACEHOLDER} as host and in the path: remove one.")


def _port(port: object) -> int | None:
    if port in (None, ""):
        return None
    try:
        number = int(str(port))
    except ValueError:
        number = 0
    if isinstance(port, bool) or not 1 <= number <= MAX_PORT:
        raise RayAgentConfigError(f"The connection's port must be a number from 1 to {MAX_PORT}, not {port!r}.")
    return number
