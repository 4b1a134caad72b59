"""The thread that looks at the records of a service: one for all jobs, and never in anyone's way."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import RayAgentError, RayAgentTimeoutError
from airflow_provider_rayagent.run import record_looks
from airflow_provider_rayagent.run.record_looks import start_look
from airflow_provider_rayagent.transport import daemon_threads
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from tests.stack.watch import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_rayagent.activity.shared_records import SharedRecords

CONFIG = read_config(host="http://127.0.0.1:1", extra={"service": "ray"})


@pytest.fixture(autouse=True)
def _local(monkeypatch: pytest.MonkeyPatch) -> None:
    """Carry looks out without a service: their operation is a function."""
    monkeypatch.setattr(BlockingServiceClient, "send", lambda _, look, **__: look())


def looking(action: Callable[[], Any]) -> Callable[[SharedRecords], Any]:
    return lambda _: action


def test_looks_are_carried_out_one_after_the_other_in_one_thread() -> None:
    running: list[int] = []
    most = 0

    def look() -> str:
        nonlocal most
        running.append(1)
        most = max(most, len(running))
        time.sleep(0.001)
        running.pop()
        return threading.current_thread().name

    results = [start_look(CONFIG, looking(look)) for _ in range(50)]
    assert len({result.result(60) for result in results}) == 1
    assert most == 1


def test_the_thread_ends_and_another_look_starts_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # So soon that looks come while a thread ends.
    for name in ("IDLE_SECONDS", "KEPT_SECONDS"):
        monkeypatch.setattr(record_looks, name, 0.0)
    for number in range(300):
        assert start_look(CONFIG, looking(lambda number=number: number)).result(60) == number  # type: ignore[misc]
        if number % 3:
            time.sleep(0.001)
    wait_until(lambda: not record_looks._lookers or None, "a thread does not end")


def test_an_error_is_that_of_its_look_only() -> None:
    def fail() -> None:
        raise RayAgentError("not today")

    failed, done = start_look(CONFIG, looking(fail)), start_look(CONFIG, looking(lambda: 1))
    with pytest.raises(RayAgentError, match="not today"):
        failed.result(60)
    assert done.result(60) == 1


@pytest.mark.parametrize("is_slow", [True, False])
def test_a_service_in_trouble_is_left_alone(is_slow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_looks, "SLOW_SECONDS", 0.1)
    asked: list[int] = []

    def look() -> None:
        asked.append(1)
        if is_slow:
            time.sleep(0.2)
        else:
            raise RayAgentTimeoutError("no answer")

    results = [start_look(CONFIG, looking(look)) for _ in range(3)]
    assert [result.exception(60) is None for result in results] == [is_slow, False, False]
    assert len(asked) == 1


def test_a_look_for_which_nobody_waits_is_left_out() -> None:
    released = threading.Event()
    first = start_look(CONFIG, looking(lambda: released.wait(60)))
    asked: list[int] = []
    second, third = (start_look(CONFIG, looking(lambda n=n: asked.append(n))) for n in (2, 3))  # type: ignore[misc]
    assert second.cancel()
    released.set()
    third.result(60)
    assert first.result(60)
    assert asked == [3]


def test_a_client_that_cannot_be_made_fails_the_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no certificate")

    monkeypatch.setattr(BlockingServiceClient, "__init__", fail)
    results = [start_look(CONFIG, looking(lambda: 1)) for _ in range(3)]
    assert {str(result.exception(60)) for result in results} == {"no certificate"}
    wait_until(lambda: not record_looks._lookers or None, "a thread does not end")


def test_too_many_threads_are_no_error_of_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(daemon_threads, "start", fail)
    with pytest.raises(RuntimeError, match="new thread"):
        start_look(CONFIG, looking(lambda: 1)).result(0)
    assert record_looks._lookers == []


def test_a_look_at_one_service_does_not_wait_for_another() -> None:
    released = threading.Event()
    first = start_look(CONFIG, looking(lambda: released.wait(60)))
    other = read_config(host="http://127.0.0.1:2", extra={"service": "ray"})
    assert start_look(other, looking(lambda: 2)).result(60) == 2
    released.set()
    assert first.result(60)
