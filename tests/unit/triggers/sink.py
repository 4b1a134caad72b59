"""A triggerer's log socket: what its triggers log goes in, and a reader in a thread takes it out as slowly as told."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

READ_BYTES = 4096
"""What Airflow's supervisor reads at a time."""


class Sink:
    """The far end of the socket.

    :param pause: seconds between two reads.
    """

    def __init__(self, pause: float) -> None:
        self.near, self._far = socket.socketpair()
        self._pause = pause
        self._data = bytearray()
        self._thread = threading.Thread(target=self._read, name="sink")
        self.reads = threading.Event()
        """Cleared, the reader stands still."""
        self.reads.set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.near.close()
        self.reads.set()
        self._thread.join()
        self._far.close()

    @property
    def bytes_read(self) -> int:
        return len(self._data)

    def records(self) -> list[dict[str, Any]]:
        """Return the records that were read so far."""
        return [json.loads(line) for line in bytes(self._data).splitlines()]

    def _read(self) -> None:
        while self.reads.wait() and (data := self._far.recv(READ_BYTES, socket.MSG_PEEK)):
            self._data += data
            self._far.recv(len(data))
            time.sleep(self._pause)


@contextmanager
def logging_to(output: Any) -> Iterator[None]:
    """Have everything logged to a binary file, as Airflow sets a triggerer up."""
    from airflow.sdk._shared.logging.structlog import LoggerFactory, NamedBytesLogger

    before = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.JSONRenderer(serializer=lambda value, **_: json.dumps(value).encode())],
        logger_factory=LoggerFactory(NamedBytesLogger, io=output),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def slow_sink(pause: float = 0.0) -> Iterator[Sink]:
    """Give a sink that everything is logged to meanwhile."""
    with Sink(pause) as sink, sink.near.makefile("wb", buffering=0) as output, logging_to(output):
        yield sink
