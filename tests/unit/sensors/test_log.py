"""The job's lines in the task log: each once, in order, unchanged, whatever the outcome."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentError, RayAgentJobFailedError, RayAgentJobMissingError
from tests.scripted import (
    DEFAULT,
    Complete,
    ErrorEvent,
    Follow,
    Grow,
    Hold,
    Html,
    Job,
    Play,
    Refuse,
    Reset,
    ScriptedAgent,
    SetStatus,
    Sleep,
    every,
)
from tests.unit.sensors.factory import run
from tests.unit.support import named, task_log

if TYPE_CHECKING:
    from tests.scripted import Request, Step
    from tests.unit.support import Connect

LINES = [f"line {number} é漢\U0001f680 %s {{}} %d" for number in range(60)]
TEXT = "\n".join(LINES) + "\n"
GET = "GET jobs/j1/"


def make_live_job(text: str = TEXT, status: str = "SUCCEEDED", **overrides: Any) -> Job:
    """Return a job that writes its log over a moment and then ends."""
    pieces = [text[at : at + 300] for at in range(0, len(text), 300)]
    timeline: list[Any] = [action for piece in pieces for action in (Grow(piece), Sleep(0.02))]
    return Job(**{"status": "RUNNING", "timeline": [*timeline, SetStatus(status)], **overrides})


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_every_line_comes_once_and_in_order_whatever_the_outcome(protocol: str, status: str, connect: Connect) -> None:
    with ScriptedAgent(make_live_job(status=status)) as agent, task_log() as log:
        connect(agent)
        if status == "SUCCEEDED":
            run(protocol=protocol)
        else:
            with pytest.raises(RayAgentError):
                run(protocol=protocol)
    assert log.lines_of(TEXT) == LINES
    assert log.warnings == []


def test_the_task_log_tells_what_became_of_the_job_and_hardly_more(connect: Connect) -> None:
    job = Job(status="PENDING", polls=["PENDING", "RUNNING", "RUNNING", "SUCCEEDED"], ws=[Play(Hold())])
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        run(poke_interval=0.5)
    told = [message for message in log.messages if message.startswith("Job j1 is")]
    assert [message.split(",")[0].split(".")[0] for message in told] == [
        "Job j1 is PENDING",
        "Job j1 is RUNNING",
        "Job j1 is SUCCEEDED",
    ]
    assert "entrypoint: python train.py" in told[0]
    assert len(log.messages) <= len(told) + 1


@pytest.mark.parametrize("end", [Reset(), Complete(), ErrorEvent()], ids=named)
@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_no_line_is_lost_or_repeated_where_streams_break(protocol: str, end: Any, connect: Connect) -> None:
    plays = [*(Play(Follow(every(41), stop=stop), end) for stop in (7, 400, 900)), DEFAULT]
    with ScriptedAgent(make_live_job(ws=plays, sse=plays)) as agent, task_log() as log:
        connect(agent)
        run(protocol=protocol, poke_interval=0.5)
    assert log.lines_of(TEXT) == LINES


def test_blank_lines_indentation_and_tabs_are_kept(connect: Connect) -> None:
    lines = ["BEGIN", "", "  indented", "\ttab\t", "trailing  ", "", "", "same", "same", "END"]
    with ScriptedAgent(Job("\n".join(lines))) as agent, task_log() as log:
        connect(agent)
        run()
    begin, end = log.messages.index("BEGIN"), log.messages.index("END")
    assert log.messages[begin : end + 1] == lines


def test_lines_that_airflows_view_would_obey_are_neutralised(connect: Connect) -> None:
    lines = ["::group::Build", "x ::endgroup:: y", "::group::", "a::b", "::warning::x"]
    with ScriptedAgent(Job("\n".join(lines))) as agent, task_log() as log:
        connect(agent)
        run()
    assert not [message for message in log.messages if "::group::" in message or "::endgroup::" in message]
    shown = [message.replace("\u200b", "") for message in log.messages]
    assert [message for message in shown if message in lines] == lines
    assert "a::b" in log.messages


def test_what_ray_says_of_the_job_is_neutralised_too(connect: Connect) -> None:
    job = Job("x\n", "FAILED", message="last lines:\n::group::x", entrypoint="echo ::endgroup::")
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        with pytest.raises(RayAgentJobFailedError, match="last lines") as caught:
            run()
    for text in (str(caught.value), *log.messages):
        assert "::group::" not in text
        assert "::endgroup::" not in text


def test_a_long_line_comes_in_marked_pieces(connect: Connect) -> None:
    long = "".join(chr(0x4E00 + number) for number in range(250))
    with ScriptedAgent(Job(f"a\n{long}\nb\n")) as agent, task_log() as log:
        connect(agent)
        run(max_line_length=100)
    at = log.messages.index("a")
    assert log.messages[at : at + 5] == [
        "a",
        f"{long[:100]} [line continues]",
        f"[continued] {long[100:200]} [line continues]",
        f"[continued] {long[200:]}",
        "b",
    ]


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
def test_without_forwarding_the_log_is_not_even_asked_for(mode: str, connect: Connect) -> None:
    with ScriptedAgent(Job(TEXT)) as agent, task_log() as log:
        connect(agent)
        assert run(forward_logs=False, mode=mode)["status"] == "SUCCEEDED"
        assert {request.route for request in agent.requests} == {GET}
    assert log.lines_of(TEXT) == []


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_log_that_cannot_be_read_is_said_and_does_not_decide_the_outcome(status: str, connect: Connect) -> None:
    refuse = [Html(500)]
    with ScriptedAgent(Job(TEXT, status, ws=refuse, sse=refuse, full=refuse)) as agent, task_log() as log:
        connect(agent)
        if status == "SUCCEEDED":
            assert run()["status"] == "SUCCEEDED"
        else:
            with pytest.raises(RayAgentJobFailedError):
                run()
    assert len([warning for warning in log.warnings if "Could not read the end of the job's log" in warning]) == 1


def test_a_log_that_was_rewritten_is_said_once_and_forwarded_anew(connect: Connect) -> None:
    def rewrite(request: Request) -> None:
        if request.ended and len(agent.of(GET)) == 4 and not job.is_over:
            job.rewrite("new 1\nnew 2\nnew 3\n")
            job.set_status("SUCCEEDED")

    job = Job("old 1\nold 2\n", status="RUNNING")
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        agent.on_request = rewrite
        run(poke_interval=0.1)
    assert log.lines_of("old 1\nold 2\nnew 1\nnew 2\nnew 3\n") == ["old 1", "old 2", "new 1", "new 2", "new 3"]
    assert len([warning for warning in log.warnings if "forwarding it again" in warning]) == 1


def test_a_poke_that_silent_fail_lets_pass_repeats_no_line(connect: Connect) -> None:
    answers: dict[str, list[Step]] = {GET: [DEFAULT, DEFAULT, *[Refuse(404)] * 6, DEFAULT]}
    job = Job(TEXT, status="RUNNING", ws=[DEFAULT, Play(Follow(), Hold())])
    with ScriptedAgent(job, answers=answers) as agent, task_log() as log:
        connect(agent)
        agent.on_request = lambda request: job.set_status("SUCCEEDED") if len(agent.of(GET)) > 8 else None
        run(silent_fail=True, poke_interval=0.2, job_missing_timeout=0.7)
    assert log.lines_of(TEXT) == LINES
    assert [message for message in log.messages if RayAgentJobMissingError.__name__ in message]


def test_a_timeout_is_not_extended_by_silent_fail(connect: Connect) -> None:
    from airflow.sdk.exceptions import AirflowSensorTimeout

    with ScriptedAgent() as agent:
        connect(agent)
        with pytest.raises(AirflowSensorTimeout):
            run(silent_fail=True, timeout=1.5, poke_interval=0.1, job_missing_timeout=0.6)
        end = agent.requests[0].time + 1.5
        late = sum(request.time > end for request in agent.requests)
    # The last look, and a request that was sent before.
    assert late <= 2


def test_the_tokens_of_the_connection_are_nowhere_in_the_task_log(connect: Connect) -> None:
    from tests.unit.support import TOKEN

    job = Job(TEXT, "RUNNING", ws=[Refuse(500, f"bad {TOKEN}")], full=[Refuse(500, f"bad {TOKEN}")], sse=[Html(500)])
    with ScriptedAgent(job) as agent, task_log() as log:
        connect(agent)
        job.set_status("SUCCEEDED")
        run()
    assert not [message for message in log.messages if TOKEN in message]
