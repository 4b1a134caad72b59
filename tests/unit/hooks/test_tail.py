"""The log methods of both hooks: what they refuse at once, the lines they yield, and what they leave behind."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentLogsUnavailableError,
    RayAgentStreamLimitError,
)
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook, StreamLimits
from tests.scripted import (
    DEFAULT,
    Follow,
    Grow,
    Hold,
    Html,
    Job,
    Play,
    Refuse,
    ScriptedAgent,
    SetStatus,
    Sleep,
)
from tests.unit.support import TOKEN

if TYPE_CHECKING:
    from tests.unit.hooks.conftest import Ask
    from tests.unit.support import Serve, TaskLog

LINES = [*(f"line {number} é漢\U0001f680" for number in range(40)), "", "\t indented", "same", "same", "", "no newline"]
TEXT = "\n".join(LINES)
WAYS: list[tuple[str, dict[str, Any], str]] = [
    ("websocket_tail_job_logs", {}, "WS jobs/j1/logs/"),
    ("stream_tail_job_logs", {}, "GET jobs/j1/logs/stream/"),
    ("tail_job_logs", {}, "WS jobs/j1/logs/"),
    ("tail_job_logs", {"protocol": "auto"}, "WS jobs/j1/logs/"),
    ("tail_job_logs", {"protocol": "websocket"}, "WS jobs/j1/logs/"),
    ("tail_job_logs", {"protocol": "http"}, "GET jobs/j1/logs/stream/"),
]


def make_live_job(**overrides: Any) -> Job:
    """Return a job that writes its log over a moment and then succeeds."""
    pieces = [TEXT[at : at + 150] for at in range(0, len(TEXT), 150)]
    timeline: list[Any] = [action for piece in pieces for action in (Grow(piece), Sleep(0.02))]
    return Job(**{"status": "RUNNING", "timeline": [*timeline, SetStatus("SUCCEEDED")], **overrides})


def make_silent_job() -> Job:
    """Return a job that goes on, with streams that stay open."""
    return Job(TEXT, status="RUNNING", ws=[Play(Follow(), Hold())], sse=[Play(Follow(), Hold())])


@pytest.mark.parametrize(
    ("method", "name", "values"),
    [
        *(
            (method, "timeout", [0, -1, 301, "abc", "5", True, None, float("nan"), float("inf")])
            for method in ("tail_job_logs", "websocket_tail_job_logs", "stream_tail_job_logs")
        ),
        ("tail_job_logs", "protocol", ["grpc", "", None, "WebSocket", 1]),
    ],
)
@pytest.mark.parametrize("hook", [RayAgentHook, RayAgentAsyncHook])
def test_a_bad_timeout_and_an_unknown_protocol_are_refused_at_the_call(
    method: str, name: str, values: list[Any], hook: Any, serve: Serve
) -> None:
    agent = serve(Job())
    for value in values:
        with pytest.raises(RayAgentInputError, match=name) as caught:
            getattr(hook(), method)("j1", **{name: value})
        assert caught.value.status_code == 400
    assert agent.connections == 0


def test_nothing_is_sent_before_the_first_line_is_asked_for(serve: Serve) -> None:
    agent = serve(Job(TEXT))
    with RayAgentHook() as hook:
        lines = hook.tail_job_logs("j1", 300)
        assert agent.requests == []
        assert list(lines) == LINES


@pytest.mark.parametrize(("method", "options", "route"), WAYS)
def test_every_way_yields_every_line_of_a_live_job_once(
    method: str, options: dict[str, Any], route: str, ask: Ask, serve: Serve
) -> None:
    agent = serve(make_live_job())
    assert ask(method, "j1", **options) == LINES
    streams = [request.route for request in agent.requests if request.route in (WAYS[0][2], WAYS[1][2])]
    assert streams[0] == route
    assert set(streams) == {route} or method == "tail_job_logs"
    assert agent.max_open_streams["j1"] == 1


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "STOPPED"])
def test_a_job_that_has_ended_is_read_to_its_end_within_limits_that_are_just_not_reached(
    protocol: Any, status: str, ask: Ask, serve: Serve
) -> None:
    serve(Job(TEXT, status))
    limits = StreamLimits(max_lines=len(LINES), max_bytes=len("".join(LINES).encode()), max_messages=1_000)
    assert ask("tail_job_logs", "j1", protocol=protocol, limits=limits) == LINES


def test_auto_goes_over_to_events_and_then_to_the_whole_log(ask: Ask, serve: Serve) -> None:
    for sse in ([], [Html(502)]):
        agent = serve(make_live_job(ws=[Html(426)], sse=sse))
        assert ask("tail_job_logs", "j1") == LINES
        assert agent.of("GET jobs/j1/logs/stream/")


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
@pytest.mark.parametrize("leave", ["close", "break", "raise"])
def test_leaving_half_way_leaves_no_socket_and_no_thread(protocol: Any, leave: str, serve: Serve) -> None:
    before = set(threading.enumerate())
    job = make_silent_job()
    agent = serve(job)
    server = set(threading.enumerate()) - before
    with RayAgentHook() as hook:
        if leave == "close":
            lines: Any = hook.tail_job_logs("j1", protocol=protocol)
            assert next(lines) == LINES[0]
            lines.close()
        elif leave == "break":
            for line in hook.tail_job_logs("j1", protocol=protocol):
                assert line == LINES[0]
                break
        else:
            with pytest.raises(ZeroDivisionError):
                any(1 // 0 for _ in hook.tail_job_logs("j1", protocol=protocol))
        agent.wait_until(lambda: agent.open_streams["j1"] == 0)
    agent.wait_until(lambda: agent.open_connections == 0)
    assert set(threading.enumerate()) - before == server


def test_an_unknown_job_is_waited_for_while_it_may_be_in_the_queue(ask: Ask, serve: Serve) -> None:
    serve(Job(TEXT), answers={"GET jobs/j1/": [Refuse(404), Refuse(404), DEFAULT]})
    assert ask("tail_job_logs", "j1") == LINES


def test_a_refused_token_ends_it_at_once(ask: Ask, serve: Serve) -> None:
    agent = serve(Job(TEXT), token="another")
    with pytest.raises(RayAgentHTTPError, match="answered 401") as caught:
        ask("tail_job_logs", "j1")
    assert TOKEN not in str(caught.value)
    assert len(agent.requests) < 5


def test_a_log_whose_end_cannot_be_read_is_an_error_after_the_last_line(ask: Ask, serve: Serve, log: TaskLog) -> None:
    refuse = [Refuse(500)]
    serve(Job(TEXT, ws=refuse, sse=refuse, full=refuse))
    with pytest.raises(RayAgentLogsUnavailableError):
        ask("tail_job_logs", "j1")
    assert any("Could not read" in warning for warning in log.warnings)


@pytest.mark.parametrize("hook", [RayAgentHook, RayAgentAsyncHook])
def test_the_limits_can_be_read_and_set(hook: Any) -> None:
    hook = hook()
    assert hook.stream_limits == StreamLimits()
    hook.stream_limits.max_lines = 7
    assert hook.stream_limits.max_lines == 7


@pytest.mark.parametrize("name", ["max_messages", "max_lines", "max_bytes", "max_message_size"])
@pytest.mark.parametrize("value", [-1, True, 1.5, float("nan"), "1", []])
def test_a_limit_that_is_no_count_is_refused_before_anything_is_sent(
    name: str, value: Any, ask: Ask, serve: Serve
) -> None:
    agent = serve(Job(TEXT))
    with pytest.raises(RayAgentInputError, match=f"{name} of the stream_limits must be a whole number"):
        ask("tail_job_logs", "j1", limits=StreamLimits(**{name: value}))
    assert agent.requests == []


def test_a_line_cannot_have_pieces_of_no_character(ask: Ask, serve: Serve) -> None:
    serve(Job(TEXT))
    with pytest.raises(RayAgentInputError, match=r"max_message_size of the stream_limits must be .* greater than 0"):
        ask("tail_job_logs", "j1", limits=StreamLimits(max_message_size=0))


@pytest.mark.parametrize("value", [{"max_lines": 3}, 7, None])
@pytest.mark.parametrize("hook", [RayAgentHook, RayAgentAsyncHook])
def test_limits_of_another_type_are_refused(hook: Any, value: Any) -> None:
    with pytest.raises(RayAgentInputError, match="stream_limits must be StreamLimits"):
        hook().stream_limits = value


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
def test_the_default_limits_end_no_healthy_job(protocol: Any, ask: Ask, serve: Serve) -> None:
    lines = [*("x" * 100 for _ in range(30_000)), "y" * 2_000_000]
    serve(Job("\n".join(lines) + "\n"))
    assert ask("tail_job_logs", "j1", protocol=protocol) == lines


@pytest.mark.parametrize("protocol", ["websocket", "http"])
@pytest.mark.parametrize(
    ("limits", "yielded"),
    [
        ({"max_lines": 3}, LINES[:3]),
        ({"max_lines": len(LINES) - 1}, LINES[:-1]),
        ({"max_bytes": len("".join(LINES[:2]).encode())}, LINES[:2]),
        ({"max_messages": 0}, []),
    ],
)
def test_a_limit_that_is_reached_raises_after_what_is_within_it(
    protocol: Any, limits: dict[str, int], yielded: list[str], ask: Ask, serve: Serve
) -> None:
    job = make_silent_job()
    serve(job)
    if limits.get("max_lines", 0) > 3:
        job.grow("\nmore\n")
    lines: list[str] = []
    with pytest.raises(RayAgentStreamLimitError, match=next(iter(limits))) as caught:
        ask("tail_job_logs", "j1", protocol=protocol, limits=StreamLimits(**limits), lines=lines)
    assert caught.value.status_code == 429
    assert lines == yielded


@pytest.mark.parametrize("protocol", ["websocket", "http"])
def test_a_limit_that_is_reached_closes_the_stream_of_a_hook_that_stays_open(protocol: Any, serve: Serve) -> None:
    limits = StreamLimits(max_lines=3)

    async def reach_limit(agent: ScriptedAgent) -> None:
        async with RayAgentAsyncHook() as hook:
            hook.stream_limits = limits
            with pytest.raises(RayAgentStreamLimitError):
                _ = [line async for line in hook.tail_job_logs("j1", protocol=protocol)]
            await agent.reached(lambda: agent.open_streams["j1"] == 0)

    job = make_silent_job()
    agent = serve(job)
    with RayAgentHook() as hook:
        hook.stream_limits = limits
        with pytest.raises(RayAgentStreamLimitError):
            list(hook.tail_job_logs("j1", protocol=protocol))
        agent.wait_until(lambda: agent.open_streams["j1"] == 0)
    asyncio.run(reach_limit(agent))
    assert agent.max_open_streams["j1"] == 1


@pytest.mark.parametrize("protocol", ["auto", "websocket", "http"])
def test_a_line_over_the_size_limit_comes_in_marked_pieces_and_nothing_is_lost(
    protocol: Any, ask: Ask, serve: Serve
) -> None:
    long = "".join(chr(0x4E00 + number) for number in range(250))
    serve(Job(f"short\n{long}\nend\n"))
    lines = ask("tail_job_logs", "j1", protocol=protocol, limits=StreamLimits(max_message_size=100))
    assert lines == [
        "short",
        f"{long[:100]} [line continues]",
        f"[continued] {long[100:200]} [line continues]",
        f"[continued] {long[200:]}",
        "end",
    ]
