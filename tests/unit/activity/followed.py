"""A job that is followed on a clock of the test."""

from __future__ import annotations

from concurrent.futures import Future
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.text.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    import pytest

    from airflow_provider_rayagent.render.record_builder import Record

CONFIG = read_config(host="http://127.0.0.1:1", extra={"service": "ray"})


class Followed:
    """A followed job whose looks are answered at once, or by the test.

    :param module: of the watch.
    :param status: of the job.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType, status: str | None) -> None:
        self.now = 0.0
        self.looks: list[tuple[float, Future[Any]]] = []
        self.found: Any = None
        """What the looks result in; an exception is raised."""
        self.is_slow = False
        job = {"status": status, "job_id": "02000000"} if status else None
        redact = Redactor(["hunter2-secret"])
        self.follower: Any = SimpleNamespace(job=job, clock=lambda: self.now, redact=redact, text_at=0.0)
        monkeypatch.setattr(module, "start_look", self._start)

    def records(self) -> Sequence[Record]:
        """Return what the watch tells."""
        raise NotImplementedError

    @property
    def is_over(self) -> bool:
        """Whether the following has ended."""
        return False

    @property
    def times(self) -> list[float]:
        """When there was a look."""
        return [at for at, _ in self.looks]

    def answer(self) -> None:
        """Answer the last look."""
        _, look = self.looks[-1]
        if isinstance(self.found, Exception):
            look.set_exception(self.found)
        else:
            look.set_result(self.found)

    def write(self) -> None:
        """Note that the job writes now."""
        self.follower.text_at = self.now

    def until(self, now: float, *, writes: bool = False) -> list[str]:
        """Go on to a time, second by second; return what is told. The job writes in the first second, or nothing."""
        told: list[str] = []
        if writes:
            self.follower.text_at = self.now + 1
        while self.now < now and not self.is_over:
            self.now += 1
            told += [record.text for record in self.records()]
        return told

    def _start(self, *_: object) -> Future[Any]:
        look: Future[Any] = Future()
        self.looks.append((self.now, look))
        if not self.is_slow:
            self.answer()
        return look
