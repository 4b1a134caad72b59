"""The job's lines in the task log, in a worker and deferred: each once, in order, unchanged, whatever the outcome."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk.exceptions import AirflowSensorTimeout

from airflow_provider_rayagent.exceptions import RayAgentJobMissingError
from tests.scripted import (
    DEFAULT,
    Complete,
    ErrorEvent,
    Follow,
    FullText,
    Grow,
    Hold,
    Html,
    Job,
    Play,
    Refuse,
    Reset,
    SetStatus,
    Sleep,
    WaitForStream,
    every,
)
from tests.unit.sensors.factory import ending_as, run_in_worker
from tests.unit.support import TOKEN, named

if TYPE_CHECKING:
    from tests.scripted import Request, Step
    from tests.unit.both_ways import Run
    from tests.unit.support import Serve, TaskLog

LINES = [
    *["begin", "", "  indented", "\ttab\t", "trailing  ", "", "", "same", "same"],
    *(f"line {number} é漢\U0001f680 %s {{}} %d" for number in range(60)),
]
TEXT = "\n".join(LINES) + "\n"
GET = "GET jobs/j1/"


def make_live_job(status: str = "SUCCEEDED", **overrides: Any) -> Job:
    """Return a job that writes its log over a moment once it is followed, and then ends."""
    pieces = [TEXT[at : at + 300] for at in range(0, len(TEXT), 300)]
    timeline: list[Any] = [action for piece in pieces for action in (Grow(piece), Sleep(0.02))]
    return Job(**{"status": "RUNNING", "timeline": [WaitForStream(), *timeline, SetStatus(status)], **overrides})


def make_ending_job(text: str, status: str = "SUCCEEDED", **overrides: Any) -> Job:
    """Return a job that has written its log and ends in a moment."""
    return Job(text, "RUNNING", timeline=[Sleep(0.1), SetStatus(status)], **overrides)


def lines_in(log: TaskLog, job: Job) -> list[str]:
    """Return the lines of the task log from the job's first to its last."""
    lines = [line for message in log.messages for line in message.split("\n")]
    first, *_, last = job.truth().splitlines()
    return lines[lines.index(first) : lines.index(last) + 1]


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_every_line_comes_once_and_in_order_whatever_the_outcome(
    protocol: str, status: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    agent = serve(make_live_job(status))
    with ending_as(status):
        run(protocol=protocol)
    assert log.lines_of(TEXT) == LINES
    assert log.warnings == []
    assert agent.max_open_streams["j1"] == 1


def test_the_task_log_tells_what_became_of_the_job_and_hardly_more(serve: Serve, log: TaskLog) -> None:
    serve(Job(status="PENDING", polls=["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"], ws=[Play(Hold())]))
    run_in_worker(poke_interval=0.5)
    told = [message for message in log.messages if message.startswith("Job j1 is")]
    first, running, ended = told
    assert first.startswith("Job j1 is PENDING, submitted ")
    assert "entrypoint: python train.py" in first
    assert running == "Job j1 is RUNNING."
    assert re.fullmatch(r"Job j1 is SUCCEEDED after \d+\.\d s\.", ended)
    assert len(log.messages) <= len(told) + 1


@pytest.mark.parametrize("end", [Reset(), Complete(), ErrorEvent()], ids=named)
@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_no_line_is_lost_or_repeated_where_streams_break(
    protocol: str, end: Any, run: Run, serve: Serve, log: TaskLog
) -> None:
    plays = [*(Play(Follow(every(41), stop=stop), end) for stop in (7, 400, 900)), DEFAULT]
    serve(make_live_job(ws=plays, sse=plays))
    run(protocol=protocol, poke_interval=0.5)
    assert log.lines_of(TEXT) == LINES


@pytest.mark.parametrize("make_job", [Job, make_ending_job])
def test_the_final_status_comes_after_the_last_lines(make_job: Any, run: Run, serve: Serve, log: TaskLog) -> None:
    bar = "50%|#####     | 1/2 [00:01<00:01]"
    progress = '__RAYAGENT_MESSAGE__ {"kind": "progress", "data": {"done": 1}}'
    serve(make_job(f"a\n{bar}\n{progress}\n"))
    run(read_messages=True, poke_interval=0.5)
    lines = [line for message in log.messages for line in message.split("\n")]
    [ended] = [at for at, line in enumerate(lines) if line.startswith("Job j1 is SUCCEEDED")]
    assert max(lines.index(line) for line in ("a", bar, "Progress: 1")) < ended


def test_the_last_line_is_written_though_it_comes_late(run: Run, serve: Serve, log: TaskLog) -> None:
    serve(make_ending_job("a\n", ws=[Play(Hold())], full=[Play(FullText(), Grow("late\n")), DEFAULT]))
    run(poke_interval=0.5)
    assert log.lines_of("a\nlate\n") == ["a", "late"]


def test_a_long_line_comes_in_marked_pieces(run: Run, serve: Serve, log: TaskLog) -> None:
    long = "".join(chr(0x4E00 + number) for number in range(250))
    job = make_ending_job(f"a\n{long}\nb\n")
    serve(job)
    run(max_line_length=100, poke_interval=0.5)
    assert lines_in(log, job) == [
        "a",
        f"{long[:100]} [line continues]",
        f"[continued] {long[100:200]} [line continues]",
        f"[continued] {long[200:]}",
        "b",
    ]


@pytest.mark.parametrize("make_job", [Job, make_ending_job])
def test_without_forwarding_the_log_is_not_even_asked_for(make_job: Any, run: Run, serve: Serve, log: TaskLog) -> None:
    agent = serve(make_job(TEXT))
    assert run(forward_logs=False)["status"] == "SUCCEEDED"
    assert {request.route for request in agent.requests} == {GET}
    assert log.lines_of(TEXT) == []


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_log_that_cannot_be_read_is_said_and_does_not_decide_the_outcome(
    status: str, run: Run, serve: Serve, log: TaskLog
) -> None:
    refuse = [Refuse(500, f"bad {TOKEN}"), Html(500)]
    serve(make_ending_job(TEXT, status, ws=refuse, sse=refuse, full=refuse))
    with ending_as(status):
        assert run(poke_interval=0.5)["status"] == status
    assert len([warning for warning in log.warnings if "Could not read the end of the job's log" in warning]) == 1
    assert not [message for message in log.messages if TOKEN in message]


def test_a_log_that_was_rewritten_is_said_once_and_forwarded_anew(run: Run, serve: Serve, log: TaskLog) -> None:
    def rewrite(request: Request) -> None:
        if request.ended and len(agent.of(GET)) == 5 and not job.is_over:
            job.rewrite("new 1\nnew 2\nnew 3\n")
            job.set_status("SUCCEEDED")

    job = Job("old 1\nold 2\n", status="RUNNING")
    agent = serve(job)
    agent.on_request = rewrite
    run(poke_interval=0.1)
    assert log.lines_of("old 1\nold 2\nnew 1\nnew 2\nnew 3\n") == ["old 1", "old 2", "new 1", "new 2", "new 3"]
    assert len([warning for warning in log.warnings if "forwarding it again" in warning]) == 1


def test_a_poke_that_silent_fail_lets_pass_repeats_no_line(serve: Serve, log: TaskLog) -> None:
    answers: dict[str, list[Step]] = {GET: [DEFAULT, DEFAULT, *[Refuse(404)] * 6, DEFAULT]}
    job = Job(TEXT, status="RUNNING", ws=[DEFAULT, Play(Follow(), Hold())])
    agent = serve(job, answers=answers)
    agent.on_request = lambda request: job.set_status("SUCCEEDED") if len(agent.of(GET)) > 8 else None
    run_in_worker(silent_fail=True, poke_interval=0.2, job_missing_timeout=0.7)
    assert log.lines_of(TEXT) == LINES
    assert [message for message in log.messages if RayAgentJobMissingError.__name__ in message]


def test_a_timeout_is_not_extended_by_silent_fail(serve: Serve) -> None:
    agent = serve()
    with pytest.raises(AirflowSensorTimeout):
        run_in_worker(silent_fail=True, timeout=1.5, poke_interval=0.1, job_missing_timeout=0.6)
    end = agent.requests[0].time + 1.5
    late = sum(request.time > end for request in agent.requests)
    # The last look, and a request that was sent before.
    assert late <= 2
