"""Connect blocking code to a host, whose addresses share one time limit.

``socket.create_connection`` and that of urllib3 give each address the whole timeout, one after the other, and a lookup
of the name has no limit at all.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from urllib3.util.connection import allowed_gai_family

from airflow_provider_rayagent.transport import daemon_threads

if TYPE_CHECKING:
    from collections.abc import Sequence

ATTEMPT_SECONDS = 0.25
"""How long an address is waited for before the next one is tried as well (RFC 8305, section 5), as anyio does."""


def connect(host: str, port: int, seconds: float, options: Sequence[tuple[int, int, int | bytes]]) -> socket.socket:
    """Return a connection to the first address of a host that accepts one.

    :param seconds: time for the lookup of the name and for all addresses together; the timeout of the socket as well.
    :param options: socket options, as urllib3 has them.
    :raises TimeoutError: if there is none in time.
    :raises OSError: that of the last address, if all refuse it; ``gaierror`` if the name has none.
    """
    until = time.monotonic() + seconds
    made = _first_of(_addresses(host, port, seconds), until, options)
    made.settimeout(seconds)
    return made


def _addresses(host: str, port: int, seconds: float) -> list[Any]:
    def look_up() -> list[Any]:
        return socket.getaddrinfo(host, port, allowed_gai_family(), socket.SOCK_STREAM)

    with suppress(ValueError):
        ip_address(host)
        return look_up()
    # While a name server does not answer, a lookup blocks for half a minute.
    looking = daemon_threads.start(look_up)
    if not daemon_threads.is_done_within(seconds, looking):
        raise TimeoutError(f"no response about {host}")
    return looking.result()


def _first_of(addresses: list[Any], until: float, options: Sequence[tuple[int, int, int | bytes]]) -> socket.socket:
    error = OSError("getaddrinfo returned no address")
    left = list(addresses)
    next_at = 0.0
    with selectors.DefaultSelector() as pending:
        try:
            while left or pending.get_map():
                now = time.monotonic()
                if now >= until:
                    raise TimeoutError("timed out")
                if left and (now >= next_at or not pending.get_map()):
                    next_at = now + ATTEMPT_SECONDS
                    try:
                        pending.register(_begin(left.pop(0), options), selectors.EVENT_WRITE)
                    except OSError as found:
                        error = found
                    continue
                for key, _ in pending.select((min(next_at, until) if left else until) - now):
                    made: Any = key.fileobj
                    code = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    pending.unregister(made)
                    if code == 0:
                        return made  # type: ignore[no-any-return]
                    made.close()
                    error = OSError(code, os.strerror(code))
                    next_at = now
        finally:
            for key in pending.get_map().values():
                key.fileobj.close()  # type: ignore[union-attr]
    raise error


def _begin(address: Any, options: Sequence[tuple[int, int, int | bytes]]) -> socket.socket:
    """Return a socket that connects to an address meanwhile.

    :raises OSError: if that fails at once.
    """
    family, kind, protocol, _, place = address
    made = socket.socket(family, kind, protocol)
    try:
        for option in options:
            made.setsockopt(*option)
        made.setblocking(False)
        code = made.connect_ex(place)
    except BaseException:
        made.close()
        raise
    if code not in (0, errno.EINPROGRESS):
        made.close()
        raise OSError(code, os.strerror(code))
    return made
