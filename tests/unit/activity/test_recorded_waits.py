"""What is said of jobs that waited on a real Ray, with what Ray answered then."""

from __future__ import annotations

import pytest

from tests.wait_records import FOLDER, replayed


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_why_a_job_waits_is_told(name: str) -> None:
    told, reason = replayed(name)
    assert (reason.text if reason else "") == told
