"""Proxies and CAs from the environment variables of the process.

``requests`` and ``httpx`` read different variables, by different rules, and raise different errors for values that they
cannot use. So they are read here, once for both transports, and not by the libraries (``trust_env=False``).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_rayagent.client.errors import RayAgentConfigError

if TYPE_CHECKING:
    from airflow_provider_rayagent.client.config import AgentConfig

CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Name the CAs if the connection does not; the first that is set counts."""


class Environment(NamedTuple):
    """How to reach one agent from this process.

    :param verify: as in :class:`AgentConfig`; a path may be that of a directory.
    :param proxies: URL of the proxy by the scheme of a request's URL, or why it can't be used; ``None``: no proxy.
    """

    verify: bool | str
    proxies: dict[str, str | RayAgentConfigError | None]

    def proxy(self, url: str) -> str | None:
        """Return the URL of the proxy for a request.

        :raises RayAgentConfigError: if it can't be used.
        """
        proxy = self.proxies[urlsplit(url).scheme]
        if isinstance(proxy, RayAgentConfigError):
            raise RayAgentConfigError(proxy.detail)
        return proxy


def read_environment(config: AgentConfig) -> Environment:
    """Return the proxies and CAs for connections to an agent.

    :raises RayAgentConfigError: for CAs that are not there.
    """
    host = urlsplit(config.base_url).netloc
    return Environment(_verify(config), {scheme: _proxy(scheme, host) for scheme in ("http", "https")})


def _verify(config: AgentConfig) -> bool | str:
    if config.verify is not True:
        return config.verify
    name = next((name for name in CA_VARIABLES if os.environ.get(name)), None)
    if name is None:
        return True
    path = os.environ[name]
    if config.base_url.startswith("https:") and not os.path.exists(path):  # noqa: PTH110
        raise RayAgentConfigError(f"The environment's {name} names a file that is not there: {path}")
    return path


def _proxy(scheme: str, host: str) -> str | RayAgentConfigError | None:
    """Return the proxy by the rules of ``requests``, whose ``NO_PROXY`` may hold networks, such as 10.0.0.0/8."""
    from requests.utils import get_environ_proxies

    proxies = get_environ_proxies(f"{scheme}://{host}/")
    key = next((key for key in (scheme, "all") if proxies.get(key)), None)
    if key is None:
        return None
    name, proxy = f"{key.upper()}_PROXY", proxies[key]
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
            "enter an http proxy there, or the agent's host in NO_PROXY."
        )
    return proxy


def shown_proxy(proxy: str) -> str:
    """Return a proxy's URL as a message may show it: without user and password."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
