"""The values that may stand for ``{cluster}`` in a connection. Pure.

A value comes from a template of a task, and the token of the connection is sent to the host that it becomes a part of.
So a value is admitted by what the owner of the connection has written: as one label of a longer host name or one
segment of a path, or, if it is the whole host, by the field *Clusters*.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING

from airflow_provider_rayagent.connection.fields import field_name, text_of
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError
from airflow_provider_rayagent.services.validation import shown
from airflow_provider_rayagent.text.codes import Code

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACEHOLDER = "{cluster}"
MAX_HOST_NAME = 253
MAX_PORT = 65535
# Without ASCII, the long s and the Kelvin sign would be letters, too.
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE | re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
"""What a resolver takes for a part of an IPv4 address: ``2130706433`` is 127.0.0.1, and so is ``0x7f.1``
(inet_aton(3), and "ends in a number" in the URL Standard)."""
_LOOPBACK_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")
"""RFC 6761, section 6.3, and the names in Debian's ``/etc/hosts``."""
_PORT = "[1-9][0-9]{0,4}"
_HOST_AND_PORTS = re.compile(rf"(?:\[(?P<literal>[^\[\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<ports>{_PORT}(?:-{_PORT})?))?")


@dataclass(frozen=True)
class Address:
    """A host, and the port of a value that has one.

    :param host: a name in lower case, an IP address, or the single label that a task names, as it is.
    """

    host: str | IPv4Address | IPv6Address
    port: int | None = None

    @classmethod
    def of(cls, text: str) -> Address:
        """Return the address in a text such as ``name``, ``10.0.0.7:8265`` or ``[fd00::7]:8265``.

        :raises ValueError: if it is none; the message says why.
        """
        host, ports = _split(text)
        if len(ports) > 1:
            raise ValueError("it has more than one port")
        return cls(_literal(host) or validate_host_name(host), ports.start if ports else None)

    @property
    def is_local(self) -> bool:
        """Whether only an exact entry admits it: the machine itself, or what every machine has, such as a cloud's
        service of credentials at 169.254.169.254."""
        if isinstance(self.host, str):
            return is_loopback_name(self.host)
        # Linux connects to 0.0.0.0 and :: as to loopback.
        return self.host.is_loopback or self.host.is_link_local or self.host.is_unspecified

    @property
    def netloc(self) -> str:
        """The host as it stands in a URL, without the port."""
        return f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)

    def __str__(self) -> str:
        return self.netloc if self.port is None else f"{self.netloc}:{self.port}"


@dataclass(frozen=True)
class Entry:
    """One entry of the field *Clusters*.

    :param host: a name, whose labels may be ``*``, or the network of literal addresses.
    :param ports: the ports that it admits; empty: only values without a port.
    """

    host: str | IPv4Network | IPv6Network
    ports: range

    @classmethod
    def of(cls, text: str) -> Entry:
        """Return the entry in a text such as ``*.emr.internal``, ``10.20.0.0/16`` or ``127.0.0.1:8265-8300``.

        :raises ValueError: if it is none; the message says why.
        """
        host, ports = _split(text)
        if "/" in host or _literal(host) is not None:
            network = ip_network(host)
            if network.num_addresses > 1 and (network.is_loopback or network.is_link_local):
                raise ValueError(f"{host} is loopback or link-local, where addresses are admitted one by one")
            return cls(network, ports)
        *labels, last = host.lower().split(".")
        if last == "*":
            raise ValueError(f"{host} ends with *, which admits any host")
        validate_host_name(".".join([*("x" if label == "*" else label for label in labels), last]))
        return cls(host.lower(), ports)

    def admits(self, address: Address) -> bool:
        """Whether it admits a value that is a whole host."""
        # Only an entry with a port admits a port: other services may listen on the same machine.
        if (address.port is None) != (not self.ports) or (self.ports and address.port not in self.ports):
            return False
        if not isinstance(self.host, str):
            # A text is never compared with a network: ``10.20.evil.example`` is a name.
            is_exact = self.host.num_addresses == 1
            return (
                not isinstance(address.host, str) and address.host in self.host and (is_exact or not address.is_local)
            )
        if not isinstance(address.host, str):
            return False
        expected, labels = self.host.split("."), address.host.lower().split(".")
        is_exact = "*" not in expected
        return (
            len(expected) == len(labels)
            and all(pattern in ("*", label) for pattern, label in zip(expected, labels, strict=True))
            and (is_exact or not address.is_local)
        )


def read_entries(value: object) -> tuple[Entry, ...]:
    """Return the entries in the field *Clusters*: a text with commas, or a list.

    :raises RayAgentConfigError: if one is malformed.
    """
    called = f"The connection's {field_name('clusters')}"
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RayAgentConfigError(f"{called} must be text with commas, such as '*.emr.internal, 10.20.0.0/16'.")
    try:
        return tuple(Entry.of(text) for text in filter(None, map(str.strip, texts)))
    except ValueError as error:
        raise RayAgentConfigError(
            f"{called} are wrong: {error}. Use names such as *.emr.internal, addresses, and networks such as "
            "10.20.0.0/16, each with a port or ports (:8265-8300) if the clusters are named with one."
        ) from None


def admitted(value: object, entries: Sequence[Entry], *, is_whole_host: bool) -> Address:
    """Return the value of a task's argument ``cluster``.

    :param entries: those of the connection; needed if the value is a whole host.
    :param is_whole_host: whether the value is the host of the URL; otherwise it is one label, and has no port.
    :raises RayAgentConfigError: if the connection does not admit it; the message says why.
    """
    text = text_of(value)
    if not isinstance(text, str) or text in ("", "None"):
        raise refused(
            value, "its template or XCom has no value; the task that creates the cluster must return its name"
        )
    try:
        address = Address.of(text) if is_whole_host else Address(_label(text))
    except ValueError as error:
        raise refused(value, str(error)) from None
    if (entries or is_whole_host) and not any(entry.admits(address) for entry in entries):
        exactly = ", and this one must be entered exactly" if address.is_local else ""
        raise refused(value, f"it matches no entry of the connection's {field_name('clusters')}{exactly}")
    return address


def refused(value: object, reason: str) -> RayAgentConfigError:
    """Return the error for a value; nothing was sent."""
    return RayAgentConfigError(f"The cluster {shown(value)} is refused: {reason}.", code=Code.CLUSTER_REFUSED)


def validate_host_name(text: str) -> str:
    """Return a host name in lower case.

    :raises ValueError: if it is none, or may be read as an address.
    """
    if len(text) > MAX_HOST_NAME:
        raise ValueError(f"a host name has up to {MAX_HOST_NAME} characters")
    for label in text.split("."):
        if _NUMBER.fullmatch(_label(label)):
            raise ValueError(f"the label {label} is a number, which may be read as a part of an address")
    return text.lower()


def is_loopback_name(name: str) -> bool:
    """Whether a host name in lower case is one of the machine itself."""
    return name.endswith(".localhost") or name in _LOOPBACK_NAMES


def _label(text: str) -> str:
    if not _LABEL.fullmatch(text):
        raise ValueError(f"{shown(text)} is no label: 1 to 63 letters, digits and hyphens, with no hyphen at its ends")
    return text


def _split(text: str) -> tuple[str, range]:
    """Return the host in a text, without brackets, and its ports, none if it has none."""
    # An IPv6 address without brackets has no port.
    found = _HOST_AND_PORTS.fullmatch(text) if text.count(":") == 1 or text.startswith("[") else None
    if found is None:
        return text, range(0)
    host = found["literal"] or found["host"]
    if found["ports"] is None:
        return host, range(0)
    first, _, last = found["ports"].partition("-")
    ports = range(int(first), int(last or first) + 1)
    if not ports or ports[-1] > MAX_PORT:
        raise ValueError(f"ports are from 1 to {MAX_PORT}, the lowest first")
    return host, ports


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that a host is, ``None`` if it is a name."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise ValueError("an IPv6 address has no zone here, and an IPv4 address is written as one")
    return address
