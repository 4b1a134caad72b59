"""Records of a job on a real Ray: levels, and a progress bar."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.render.record_builder import DisplaySettings, Record
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.tail.commands import TailSettings
from airflow_provider_rayagent.transport.blocking import BlockingAgent
from airflow_provider_rayagent.transport.blocking_driver import Follower
from tests.stack.job_logs import AFTER_RAY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

STEPS = 120
INTERVAL = 2.0
PROGRAM = f"""{AFTER_RAY}
import logging, time
from tqdm import tqdm
logging.warning("old\\x07 data")
for _ in tqdm(range({STEPS}), desc="train", mininterval=0):
    time.sleep(0.05)
{{}}["missing"]
"""


def test_progress_bar_is_reduced_and_levels_are_detected(agent: LocalAgent, tmp_path: Path) -> None:
    program = tmp_path / "job.py"
    program.write_text(PROGRAM, encoding="utf-8")
    job_id = agent.submit(f"python -u {program}")
    made = JobRecords(job_id, DisplaySettings(progress_interval=INTERVAL))
    settings = TailSettings(poll_interval=1.0, progress_interval=INTERVAL)
    shown: list[tuple[float, Record]] = []
    with BlockingAgent(read_config(host=agent.url, token=agent.token)) as transport:
        for items in Follower(transport, JobId(job_id), settings).items():
            now = time.monotonic()
            shown += [(now, record) for record in made.render(items, now)]
    shown += [(now, record) for record in made.finish()]

    states = [(moment, record.text) for moment, record in shown if "%|" in record.text]
    levels = {record.text.strip(): record.level for _, record in shown}
    (begun, first), (ended, last) = states[0], states[-1]
    assert f"0/{STEPS}" in first
    assert f"{STEPS}/{STEPS}" in last
    # One per interval, the first, the complete one, and the one that is held before another line.
    assert len(states) <= (ended - begun) / INTERVAL + 3
    assert levels["WARNING:root:old\\x07 data"] == logging.WARNING
    assert levels["Traceback (most recent call last):"] == logging.ERROR
    assert levels["KeyError: 'missing'"] == logging.ERROR
