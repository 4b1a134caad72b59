"""Proxies and CAs from the environment variables of the process, and the files for TLS.

``requests`` and ``httpx`` read different variables by different rules, and raise different errors for invalid values.
Therefore this module reads them for both transports, instead of the libraries (``trust_env=False``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_rayagent.connection.permitted_files import path_for_library
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError

if TYPE_CHECKING:
    from airflow_provider_rayagent.connection.config import ServiceConfig

# Those of requests (``Session.merge_environment_settings``), then those of httpx (``create_ssl_context``).
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Variables for the CAs, if the connection does not specify any; the first one that is set is used."""


class Environment(NamedTuple):
    """How to reach one agent from this process.

    :param verify: see :class:`ServiceConfig`; the path may be a directory.
    :param proxies: by URL scheme of a request: URL of the proxy, an error if it is invalid, or ``None`` for no proxy.
    :param client_cert: see :class:`ServiceConfig`.
    """

    verify: bool | str
    proxies: dict[str, str | RayAgentConfigError | None]
    client_cert: str | tuple[str, str] | None

    def proxy(self, url: str) -> str | None:
        """Return the URL of the proxy for a request, or ``None``.

        :raises RayAgentConfigError: if it is invalid or not supported.
        """
        proxy = self.proxies[urlsplit(url).scheme]
        if isinstance(proxy, RayAgentConfigError):
            # A new exception: each raise of the stored one would lengthen its traceback.
            raise RayAgentConfigError(proxy.detail)
        return proxy


def read_environment(config: ServiceConfig) -> Environment:
    """Return the proxies and CAs for connections to an agent.

    :raises RayAgentConfigError: if the file or directory with the CAs does not exist, or a file may not be opened.
    """
    host = urlsplit(config.base_url).netloc
    proxies = {scheme: _proxy(scheme, host) if config.uses_proxies else None for scheme in ("http", "https")}
    return Environment(_verify(config), proxies, _client_cert(config))


def _verify(config: ServiceConfig) -> bool | str:
    if isinstance(config.verify, str):
        return path_for_library(config.tls_folders, "ca_bundle", config.verify)
    if not config.verify:
        return False
    name = next((name for name in CA_VARIABLES if os.environ.get(name)), None)
    if name is None:
        return True
    path = os.environ[name]
    # Plain http needs no CAs. Path.exists() raises PermissionError for a folder that may not be searched (Python 3.11).
    if config.base_url.startswith("https:") and not os.path.exists(path):  # noqa: PTH110
        raise RayAgentConfigError(f"The environment's {name} names a file that does not exist: {path}")
    return path


def _client_cert(config: ServiceConfig) -> str | tuple[str, str] | None:
    if not isinstance(config.client_cert, tuple):
        return config.client_cert and path_for_library(config.tls_folders, "client_cert", config.client_cert)
    cert, key = zip(("client_cert", "client_key"), config.client_cert, strict=True)
    return path_for_library(config.tls_folders, *cert), path_for_library(config.tls_folders, *key)


def _proxy(scheme: str, host: str) -> str | RayAgentConfigError | None:
    """Return the proxy by the rules of ``requests``, which accept networks in ``NO_PROXY``, such as 10.0.0.0/8."""
    from requests.utils import get_environ_proxies

    proxies = get_environ_proxies(f"{scheme}://{host}/")
    key = next((key for key in (scheme, "all") if proxies.get(key)), None)
    if key is None:
        return None
    name, proxy = f"{key.upper()}_PROXY", proxies[key]
    # As requests does (``prepend_scheme_if_needed``).
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        usable = bool(parts.hostname) and parts.port != 0 and not any(map(str.isspace, proxy))
    except ValueError:
        usable = False
    if not usable:
        return RayAgentConfigError(f"The environment's {name} is not the URL of a proxy, such as http://proxy:3128.")
    if parts.scheme not in ("http", "https"):
        return RayAgentConfigError(
            f"The environment's {name} names a {parts.scheme} proxy, which is not supported: "
            "enter an http proxy there, or the host of the connection in NO_PROXY."
        )
    return proxy


def shown_proxy(proxy: str) -> str:
    """Return the URL of a proxy for messages, without user name and password."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
