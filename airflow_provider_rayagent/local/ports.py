"""Ports for servers that need some time until they listen."""

from __future__ import annotations

import contextlib
import random
import socket

from airflow_provider_rayagent.local.errors import LocalAgentError

CANDIDATES = range(20_000, 30_000)
"""Ports that no common operating system gives to outgoing connections.

One of those can be in use by the time a server listens: a Ray head on a busy machine needs more than half a minute.
"""


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Return different ports that are currently free.

    :raises LocalAgentError: if there are not so many.
    """
    found: list[int] = []
    # In random order: two agents that start together would otherwise get the same ports, which neither keeps bound.
    for port in random.sample(CANDIDATES, len(CANDIDATES)):
        with contextlib.suppress(OSError), socket.socket() as each:
            each.bind((host, port))
            found.append(port)
            if len(found) == count:
                return found
    raise LocalAgentError(f"There are no {count} free ports from {CANDIDATES[0]} to {CANDIDATES[-1]} at {host}.")
