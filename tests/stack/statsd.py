"""A StatsD listener on a real UDP socket, for the metrics of an Airflow."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "airflow."
MAX_DATAGRAM = 65_536
BUFFER = 64 * MAX_DATAGRAM


class Sample(NamedTuple):
    """One received value.

    :param name: without Airflow's prefix.
    :param kind: ``c`` (counter), ``g`` (gauge) or ``ms`` (timer).
    """

    name: str
    tags: dict[str, str]
    value: float
    kind: str


class StatsdListener:
    """Collects the metrics that it receives. Created by :func:`statsd_listener`."""

    def __init__(self, receiver: socket.socket) -> None:
        self._socket = receiver
        self._samples: list[Sample] = []
        self.port: int = receiver.getsockname()[1]

    @property
    def settings(self) -> dict[str, str]:
        """The environment variables that make an Airflow send its metrics here, with tags."""
        values = {"STATSD_ON": "True", "STATSD_PORT": str(self.port), "STATSD_INFLUXDB_ENABLED": "True"}
        return {f"AIRFLOW__METRICS__{name}": value for name, value in {"STATSD_HOST": "127.0.0.1", **values}.items()}

    def samples(self, name: str = "", **tags: str) -> list[Sample]:
        """Return what was received of a metric (by default: of all) with these tags, in order."""
        return [
            sample
            for sample in list(self._samples)
            if name in ("", sample.name) and tags.items() <= sample.tags.items()
        ]

    def values(self, name: str, **tags: str) -> list[float]:
        """Return the values received."""
        return [sample.value for sample in self.samples(name, **tags)]

    def total(self, name: str, **tags: str) -> float:
        """Return the sum of a counter."""
        return sum(self.values(name, **tags))

    def receive(self) -> None:
        """Collect until an empty datagram is received."""
        while data := self._socket.recv(MAX_DATAGRAM):
            self._samples += [parse(line) for line in data.decode().split("\n") if line]


def parse(line: str) -> Sample:
    """Read ``name,tag=value:value|kind``, StatsD's format with the tags of InfluxDB."""
    head, _, rest = line.partition(":")
    name, *tags = head.split(",")
    value, kind = rest.split("|")[:2]
    return Sample(name.removeprefix(PREFIX), dict(tag.split("=", 1) for tag in tags), float(value), kind)


@contextmanager
def statsd_listener() -> Iterator[StatsdListener]:
    """Listen on a free port of 127.0.0.1 until the block ends."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        # What arrives while a busy machine does not let the thread run is lost if there is no room for it.
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        receiver.bind(("127.0.0.1", 0))
        listener = StatsdListener(receiver)
        thread = threading.Thread(target=listener.receive, name="statsd")
        thread.start()
        try:
            yield listener
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"", ("127.0.0.1", listener.port))
            thread.join()
