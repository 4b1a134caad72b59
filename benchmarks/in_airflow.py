"""Operators and triggers for a benchmark's Airflow: log lines from memory, and probe the triggerer's event loop."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from airflow.sdk import BaseOperator
from airflow.triggers.base import BaseTrigger, StartTriggerArgs, TriggerEvent

from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor
from airflow_provider_rayagent.triggers.rayagent import RayAgentJobTrigger
from benchmarks.feeder import BLOCK, BLOCK_LINES, MIXED

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow.sdk import Context

MEMORY_LOGGER = "benchmark.from_memory"
PROBE_SECONDS = 0.005


class LogFromMemory(BaseOperator):
    """Log lines from memory, one record per line.

    :param mixed: whether to log the lines of :data:`MIXED`.
    """

    def __init__(self, *, lines: int, mixed: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lines = lines
        self.mixed = mixed

    def execute(self, context: Context) -> None:
        """Log the lines."""
        log = structlog.get_logger(MEMORY_LOGGER)
        block = [line[:-1] for line in (MIXED if self.mixed else BLOCK)]
        for _ in range(self.lines // BLOCK_LINES):
            for line in block:
                log.info(line)


class LogFromMemoryTrigger(BaseTrigger):
    """Log lines from memory, one record per line, as a simple trigger would do."""

    def __init__(self, lines: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lines = lines

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{__name__}.{type(self).__name__}", {"lines": self.lines}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Log the lines, and wait until they are in the log file."""
        log = structlog.get_logger(MEMORY_LOGGER)
        block = [line[:-1] for line in BLOCK]
        for _ in range(self.lines // BLOCK_LINES):
            for line in block:
                log.info(line)
                await asyncio.sleep(0)
        await asyncio.sleep(3.0)
        yield TriggerEvent(None)  # type: ignore[no-untyped-call]


class ProbeTrigger(BaseTrigger):
    """Write the delays of a 5 ms timer to a file until the file is removed: pairs of a time and a delay in seconds."""

    def __init__(self, path: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.path = path

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{__name__}.{type(self).__name__}", {"path": self.path}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Measure."""
        with Path(self.path).open("w", buffering=1, encoding="utf-8") as file:  # noqa: ASYNC230 - a line at a time
            while Path(self.path).exists():  # noqa: ASYNC240 - some microseconds
                due = time.monotonic() + PROBE_SECONDS
                await asyncio.sleep(PROBE_SECONDS)
                json.dump([time.time(), time.monotonic() - due], file)
                file.write("\n")
        yield TriggerEvent(None)  # type: ignore[no-untyped-call]


class TimerTrigger(BaseTrigger):
    """Fire after some seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return f"{__name__}.{type(self).__name__}", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then fire the event."""
        await asyncio.sleep(self.seconds)
        yield TriggerEvent(None)  # type: ignore[no-untyped-call]


class JobSensorInTriggerer(RayAgentJobSensor):
    """Follow a job deferred from the start: a worker for each of a thousand tasks would take an hour."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(deferrable=True, **kwargs)
        options = self._follow_options(self.job_id).to_json()
        trigger = RayAgentJobTrigger(job_id=self.job_id, rayagent_conn_id=self.rayagent_conn_id, **options)
        path, arguments = trigger.serialize()
        self.start_from_trigger = True
        self.start_trigger_args = StartTriggerArgs(
            trigger_cls=path, trigger_kwargs=arguments, next_method="execute_complete", timeout=None
        )


class DeferTo(BaseOperator):
    """Defer to a trigger, and succeed when it fires.

    :param trigger: name of a class in this module, and its argument.
    """

    def __init__(self, *, trigger: tuple[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trigger = trigger

    def execute(self, context: Context) -> None:
        """Defer."""
        name, argument = self.trigger
        self.defer(trigger=globals()[name](argument), method_name="done")

    def done(self, context: Context, event: Any) -> None:
        """Succeed."""
