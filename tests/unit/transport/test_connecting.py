"""A host with several addresses, some of which do not answer: they share the time to connect."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.transport import connecting
from tests.scripted import Job, ScriptedAgent
from tests.unit.transports import GET_JOB, TRANSPORTS, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    SetAddresses = Callable[[list[tuple[str, int]]], None]

HOST = "many.test"
pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def dead() -> Iterator[tuple[str, int]]:
    """Give an address that does not answer: its queue of connections is full."""
    with ExitStack() as opened:
        listener = opened.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()


@pytest.fixture
def refusing() -> Iterator[tuple[str, int]]:
    """Give an address where nothing listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> SetAddresses:
    """Set the addresses of the host."""
    look_up = socket.getaddrinfo
    found: list[Any] = []

    def of_host(host: Any, *more: Any, **options: Any) -> Any:
        return found if host in (HOST, HOST.encode()) else look_up(host, *more, **options)

    def set_addresses(places: list[tuple[str, int]]) -> None:
        found[:] = [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", place) for place in places]

    monkeypatch.setattr(socket, "getaddrinfo", of_host)
    return set_addresses


def place_of(server: ScriptedAgent) -> tuple[str, int]:
    return "127.0.0.1", int(urlsplit(server.url).port or 0)


def ask(transport: Transport, **extra: Any) -> Any:
    return transport.send(read_config(host=f"http://{HOST}:1", extra=extra), GET_JOB)


def test_dead_addresses_do_not_keep_a_worker_from_the_one_that_answers(
    dead: tuple[str, int], addresses: SetAddresses
) -> None:
    with ScriptedAgent(Job()) as server:
        addresses([*[dead] * 4, place_of(server)])
        # Each of them alone would take the whole time to connect, 300 seconds.
        assert ask(TRANSPORTS["blocking"])["status"] == "SUCCEEDED"


def test_the_time_to_connect_is_that_of_all_addresses_together(dead: tuple[str, int], addresses: SetAddresses) -> None:
    addresses([dead] * 200)
    began = time.monotonic()
    with pytest.raises(RayAgentUnreachableError, match=r"within 0\.3 seconds"):
        ask(TRANSPORTS["blocking"], connect_timeout=0.3)
    # One after the other, they would take a minute.
    assert time.monotonic() - began < 30


def test_an_address_that_refuses_is_followed_by_the_next_one_at_once(
    refusing: tuple[str, int], addresses: SetAddresses, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "ATTEMPT_SECONDS", 300.0)
    with ScriptedAgent(Job()) as server:
        addresses([refusing, refusing, place_of(server)])
        assert ask(TRANSPORTS["blocking"])["status"] == "SUCCEEDED"


def test_addresses_that_all_refuse_are_told_as_one_that_does(
    refusing: tuple[str, int], addresses: SetAddresses, transport: Transport
) -> None:
    addresses([refusing] * 3)
    with pytest.raises(RayAgentUnreachableError):
        ask(transport)


def test_a_name_without_an_address_is_told(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(RayAgentUnreachableError):
        ask(transport)


def test_a_name_server_that_does_not_answer_takes_no_more_than_the_time_to_connect(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, look_up = threading.Event(), socket.getaddrinfo

    def hang(host: Any, *more: Any, **options: Any) -> Any:
        if host in (HOST, HOST.encode()):
            answers.wait()
            return []
        return look_up(host, *more, **options)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with pytest.raises(RayAgentUnreachableError, match=r"within 0\.3 seconds"):
            ask(transport, connect_timeout=0.3)
    finally:
        answers.set()


def test_no_socket_is_left_open(dead: tuple[str, int], addresses: SetAddresses) -> None:
    def sockets() -> list[str]:
        with os.scandir("/proc/self/fd") as found:
            return sorted(each.name for each in found if Path(each.path).is_socket())

    with ScriptedAgent(Job()) as server:
        before = sockets()
        addresses([dead] * 3)
        with pytest.raises(TimeoutError):
            connecting.connect(HOST, 1, 0.6, ())
        addresses([dead, place_of(server)])
        with connecting.connect(HOST, 1, 60.0, ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)) as made:
            assert made.gettimeout() == 60.0
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        server.wait_until(lambda: sockets() == before)
