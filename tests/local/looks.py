"""Looks at the records of a real Ray, for which a test has more time than a task."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.activity import shared_records, silence_look
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.run import wait_watch
from airflow_provider_rayagent.transport import blocking
from tests.failure_records import Recorder
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.services.call import Call


class RecordingClient(blocking.BlockingServiceClient):
    """Keeps the answers for unit tests."""

    recorder = Recorder()

    async def _send_once(self, call: Call, attempt: int) -> Any:
        try:
            answer = await super()._send_once(replace(call, read_timeout=PATIENCE), attempt)
        except RayAgentError as error:
            self.recorder.note(call, error)
            raise
        self.recorder.note(call, answer)
        return answer


@contextmanager
def patient_looks() -> Iterator[pytest.MonkeyPatch]:
    """Let looks wait for Ray, which answers later on a busy machine, and ask it anew each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wait_watch, "WAIT_LOOK_SECONDS", PATIENCE)
        patch.setattr(silence_look, "LOOK_SECONDS", PATIENCE)
        patch.setattr(shared_records, "KEPT_SECONDS", 0.0)
        patch.setattr(blocking, "BlockingServiceClient", RecordingClient)
        yield patch
