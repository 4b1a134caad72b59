"""Record when lines arrive: a relay for those that an agent sends, and a watcher for those in a log file.

A line is identified by its mark, the time at which it was printed: ``@1764081234.567890@``.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = re.compile(rb"@(\d{10}\.\d{6})@")
MARK_BYTES = 19
CHECK_INTERVAL = 0.005


class Marks:
    """The marks that arrived, each with the time of its first arrival (seconds since the epoch)."""

    def __init__(self) -> None:
        self.arrived: dict[float, float] = {}

    def record(self, data: bytes, now: float) -> bytes:
        """Record the marks in ``data``; return its end, which may be the beginning of a mark."""
        for found in MARK.finditer(data):
            self.arrived.setdefault(float(found[1]), now)
        return data[-MARK_BYTES + 1 :]


class Relay:
    """Relays all connections to an agent.

    :param marks: records the data from the agent, regardless of the protocol.
    """

    def __init__(self, agent_url: str, marks: Marks) -> None:
        parts = urlsplit(agent_url)
        self._agent = (parts.hostname or "", parts.port or 80)
        self._marks = marks
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop accepting connections."""
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                agent = socket.create_connection(self._agent)
                for each in (client, agent):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(client, agent, None), daemon=True).start()
                threading.Thread(target=self._pump, args=(agent, client, self._marks), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, marks: Marks | None) -> None:
        rest = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                now = time.time()
                sink.sendall(data)
                if marks is not None:
                    rest = marks.record(rest + data, now)
        for each, how in ((sink, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                each.shutdown(how)


@contextlib.contextmanager
def watched_file(path: Path) -> Iterator[Marks]:
    """Record when each mark appears in a file, which may not exist yet; check it every five milliseconds."""
    marks = Marks()
    over = threading.Event()

    def watch() -> None:
        while not path.exists() and not over.wait(CHECK_INTERVAL):
            pass
        rest = b""
        with path.open("rb") if path.exists() else contextlib.nullcontext() as file:
            while file is not None:
                last = over.is_set()
                data = file.read()
                if data:
                    rest = marks.record(rest + data, time.time())
                if last:
                    return
                over.wait(CHECK_INTERVAL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield marks
    finally:
        over.set()
        thread.join()
