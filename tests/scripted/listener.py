"""The port of the server, which listens or refuses, and is the server's own all the time."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

BACKLOG = 4096


class Listener:
    """A port, which at first refuses connections.

    :param port: 0 for a free one.
    :param let_in: gets each connection.
    """

    def __init__(self, port: int, let_in: Callable[[socket.socket], object]) -> None:
        self._let_in = let_in
        # While it does not listen, it refuses connections and keeps the port from others.
        self._reserved = _bound(port)
        self._listening: socket.socket | None = None
        self.port: int = self._reserved.getsockname()[1]

    @property
    def accepts(self) -> bool:
        """Whether connections are accepted."""
        return self._listening is not None

    def listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """Accept connections."""
        if self._listening is None:
            self._listening = _bound(self.port)
            self._listening.listen(BACKLOG)
            self._listening.setblocking(False)
            loop.add_reader(self._listening, self._accept, self._listening)

    def refuse(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuse connections."""
        if self._listening is not None:
            loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def close(self) -> None:
        """Give the port back."""
        self._reserved.close()

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        client.setblocking(False)
        self._let_in(client)


def _bound(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock
