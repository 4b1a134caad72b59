"""The nodes of a cluster, as messages show them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_rayagent.text.sanitization import sanitize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MAX_NODE = 100
"""Characters of an address or an id."""


def shown_node(node_id: str, addresses: Mapping[str, str], redact: Callable[[str], str]) -> str:
    """Return the IP address of a node, or the beginning of its id if that is unknown; both if other nodes have it, too.

    :param addresses: of nodes, by their ids.
    """
    address = addresses.get(node_id, "")
    short = sanitize(node_id, redact, length=MAX_NODE)[:8]
    if not address:
        return short
    # The nodes of one machine have the same address.
    is_shared = sum(each == address for each in addresses.values()) > 1
    shown = sanitize(address, redact, length=MAX_NODE)
    return f"{shown} [{short}]" if is_shared else shown
