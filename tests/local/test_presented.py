"""Records of a job on a real Ray: levels, and a progress bar."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.client.blocking import BlockingAgent
from airflow_provider_rayagent.client.blocking_driver import Follower
from airflow_provider_rayagent.client.config import read_config
from airflow_provider_rayagent.client.validation import JobId
from airflow_provider_rayagent.render.record_builder import PresentSettings, Record
from airflow_provider_rayagent.render.records import JobRecords
from airflow_provider_rayagent.tail.commands import TailSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stack.agent import LocalAgent

pytestmark = pytest.mark.ray

STEPS = 120
PROGRAM = f"""
import logging, time
from tqdm import tqdm
time.sleep(2)
logging.warning("old\\x07 data")
for _ in tqdm(range({STEPS}), desc="train", mininterval=0):
    time.sleep(0.05)
{{}}["missing"]
"""


def test_progress_bar_is_reduced_and_levels_are_detected(agent: LocalAgent, tmp_path: Path) -> None:
    program = tmp_path / "job.py"
    program.write_text(PROGRAM, encoding="utf-8")
    job_id = agent.submit(f"python -u {program}")
    made = JobRecords(job_id, PresentSettings(progress_interval=2.0))
    records: list[Record] = []
    with BlockingAgent(read_config(host=agent.url, token=agent.token)) as transport:
        for items in Follower(transport, JobId(job_id), TailSettings(poll_interval=1.0, progress_interval=2.0)).items():
            records += made.render(items, time.monotonic())
    records += made.finish()

    states = [record.text for record in records if "%|" in record.text]
    levels = {record.text.strip(): record.level for record in records}
    assert f"0/{STEPS}" in states[0]
    assert f"{STEPS}/{STEPS}" in states[-1]
    assert len(states) < STEPS / 10
    assert levels["WARNING:root:old\\x07 data"] == logging.WARNING
    assert levels["Traceback (most recent call last):"] == logging.ERROR
    assert levels["KeyError: 'missing'"] == logging.ERROR
