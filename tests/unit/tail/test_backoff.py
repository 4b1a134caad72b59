"""The load on the agent from a permanent fault, on the virtual clock."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from airflow_provider_rayagent.tail.end import End
from tests.tail.figures import figure
from tests.unit.tail.history import History
from tests.unit.tail.world import World

HOUR = 3600.0
TEXT = "line\n" * 40

LASTING: dict[str, tuple[dict[str, Any], int]] = {
    "no fault": ({}, 13),
    "every stream refused": ({"refused": 1.0}, 35),
    "every stream and the whole log refused": ({"refused": 1.0, "text_fails": 1.0}, 30),
    "every stream and the whole log refused for good": ({"refused": 1.0, "text_gone": True}, 30),
    "streams that never say anything": ({"mute": 1.0, "alive": False}, 16),
    "streams that end at once": ({"ends": 1.0}, 45),
    "streams that say complete at once": ({"completes": 1.0}, 45),
    "streams that begin at now": ({"from_now": 1.0, "growth": "early"}, 35),
    "streams of which every read may be the last": ({"ends": 0.5}, 60),
}


@pytest.mark.parametrize(("fault", "most"), LASTING.values(), ids=LASTING)
def test_an_hour_of_a_fault_causes_few_requests_per_minute(fault: dict[str, Any], most: int) -> None:
    world = World(History(text=TEXT, duration=HOUR, **fault)).run()
    assert world.end is End.JOB_ENDED
    after_a_minute = [moment for moment, _ in world.requests if 60 < moment < HOUR]
    assert len(after_a_minute) / (HOUR / 60 - 1) <= most
    if "text_gone" not in fault:
        assert world.lines == ["line"] * 40


def test_a_permanent_503_causes_few_requests_per_minute_until_the_tail_gives_up() -> None:
    world = World(History(text=TEXT, duration=HOUR, refused=1.0, text_fails=1.0, status_fails=1.0, recovers=HOUR)).run()
    assert world.end is End.AGENT_UNREACHABLE
    assert 300 <= world.now < 310
    minutes = Counter(int(moment // 60) for moment, _ in world.requests)
    assert max(minutes.values()) == minutes[0] <= 40
    assert max(minutes[minute] for minute in range(1, 5)) <= 25
    per_minute = ", ".join(str(minutes[minute]) for minute in range(5))
    figure(f"requests a minute under a permanent 503 (virtual clock, until it is given up): {per_minute}")


def test_a_pending_job_with_a_silent_stream_causes_few_requests_besides_its_status() -> None:
    world = World(History(text=TEXT, duration=HOUR, growth="late", alive=False)).run()
    kinds = Counter(kind for _, kind in world.requests)
    assert world.lines == ["line"] * 40
    assert kinds["status"] <= HOUR / 5 * 1.1
    assert kinds["websocket"] + kinds["http"] + kinds["text"] < 60
