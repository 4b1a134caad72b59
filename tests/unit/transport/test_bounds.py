"""Both transports limit the time and size of responses, over real sockets."""

from __future__ import annotations

import functools
import threading
import zlib
from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConnectionError,
    RayAgentHTTPError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentTimeoutError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.stream import bodies
from airflow_provider_rayagent.stream.frames import FrameDecoder
from airflow_provider_rayagent.stream.sse import SseDecoder
from airflow_provider_rayagent.tail.end import End
from airflow_provider_rayagent.transport import limits, live_logs
from airflow_provider_rayagent.transport.limits import Limit
from airflow_provider_rayagent.transport.log_responses import StreamEndedError
from tests.scripted import (
    DEFAULT,
    Action,
    Follow,
    Hold,
    Job,
    Log,
    Ping,
    Play,
    Repeat,
    Request,
    ScriptedAgent,
    SetStatus,
    Silence,
    Step,
    StopReading,
    WaitFor,
    Wire,
    frames,
)
from tests.scripted.websocket import WsExchange
from tests.stack.watch import PATIENCE
from tests.unit.transports import SOURCES, Transport, config_of

if TYPE_CHECKING:
    from airflow_provider_rayagent.tail.commands import StreamSource
    from tests.scripted.exchange import Exchange

pytestmark = pytest.mark.timeout(PATIENCE)
"""Without limits, most of these tests would not end."""

LINES = [f"line {number} é" for number in range(50)]
TEXT = "\n".join(LINES) + "\n"
GET = "GET jobs/j1/"
WHOLE = "GET jobs/j1/logs/"
ROUTES = {"websocket": "WS jobs/j1/logs/", "http": "GET jobs/j1/logs/stream/"}
MANY_BYTES = 40_000_000
FEW_BYTES = 15_000_000
"""More than the kernel's socket buffers."""
HEAD = "HTTP/1.1 {} Words\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
FAST = Repeat(b"ffff\r\n" + b"." * 65_535 + b"\r\n", 0)
ENDLESS: dict[str, list[Action]] = {
    "silence": [Wire(HEAD.format(503) + "4\r\nwait\r\n"), Silence()],
    "byte by byte": [Wire(HEAD.format(503) + "4\r\nwait\r\n"), Repeat(b"1\r\n.\r\n")],
    "as fast as it is read": [Wire(HEAD.format(503) + "4\r\nwait\r\n"), FAST],
}


@pytest.fixture(autouse=True)
def _short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ANSWER", Limit(0.4, 1_000_000))
    monkeypatch.setattr(limits, "ERROR", Limit(0.4, 65_536))
    monkeypatch.setattr(limits, "LOG", Limit(0.4, 100_000_000_000, 10_000))


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("body", ENDLESS)
def test_an_endless_error_body_of_a_stream_does_not_block_the_tail(
    transport: Transport, source: StreamSource, body: str
) -> None:
    refusal = Play(SetStatus("SUCCEEDED"), *ENDLESS[body])
    with ScriptedAgent(Job(TEXT, "RUNNING", ws=[refusal], sse=[refusal])) as server:
        lines, following = transport.follow(config_of(server), source)
        assert (lines, following.end) == (LINES, End.JOB_ENDED)
        server.wait_until(lambda: server.open_connections == 0)


@pytest.mark.parametrize("body", ENDLESS)
def test_an_endless_error_body_raises_the_error_with_the_size_received_so_far(transport: Transport, body: str) -> None:
    with (
        ScriptedAgent(Job(), answers={GET: [Play(*ENDLESS[body])]}) as server,
        pytest.raises(RayAgentServerError, match=r"answered 503, .* \([\d,]+ bytes, text/plain\)") as caught,
    ):
        transport.send(config_of(server), AGENT.get_job(JobId("j1")))
    assert caught.value.status_code == 503


@pytest.mark.parametrize(
    "answer",
    [
        Play(Wire(HEAD.format(200)), Repeat(b"1\r\n \r\n")),
        Play(Wire("HTTP/1.1 200 OK\r\nX-Long: "), Repeat(b"x")),
        Play(Wire("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"), Repeat(b" ")),
    ],
)
def test_a_response_that_arrives_byte_by_byte_times_out(transport: Transport, answer: Step) -> None:
    with ScriptedAgent(Job(), answers={GET: [answer]}) as server, pytest.raises(RayAgentTimeoutError):
        transport.send(config_of(server, read_timeout=0.5), AGENT.get_job(JobId("j1")))


def test_the_error_for_a_slow_response_says_so(transport: Transport) -> None:
    answer = Play(Wire(HEAD.format(200)), Repeat(b"1\r\n \r\n"))
    with (
        ScriptedAgent(Job(), answers={GET: [answer]}) as server,
        pytest.raises(RayAgentTimeoutError, match=r"The response from http://\S+ comes too slowly: only \d+ bytes in"),
    ):
        transport.send(config_of(server), AGENT.get_job(JobId("j1")))


def long_answer(status: int, content_type: str = "text/plain") -> Play:
    """Return a large response, which is sent only as fast as it is read."""
    head = f"HTTP/1.1 {status} Words\r\nContent-Type: {content_type}\r\nLocation: http://127.0.0.1:1/login\r\n"
    return Play(Wire(f"{head}Content-Length: {MANY_BYTES}\r\n\r\n"), Repeat(b"x" * 65_536, 0))


def test_a_response_that_is_too_large_is_not_read_to_its_end(transport: Transport) -> None:
    with ScriptedAgent(Job(), answers={GET: [long_answer(200)]}) as server:
        with pytest.raises(RayAgentResponseError, match=r"GET /jobs/j1/ answered 200 with more than 1 MB"):
            transport.send(config_of(server), AGENT.get_job(JobId("j1")))
        server.wait_until(lambda: server.open_connections == 0)
        assert server.bytes_sent < FEW_BYTES


@pytest.mark.parametrize("status", [200, 302])
@pytest.mark.parametrize("source", SOURCES)
def test_a_body_that_is_not_a_log_stream_is_not_read(transport: Transport, source: StreamSource, status: int) -> None:
    """A proxy that drops ``Upgrade`` responds with the whole log; a login page may follow a redirect or not."""
    wall = long_answer(status, "text/plain" if source == "websocket" else "text/html")
    with ScriptedAgent(Job(ws=[wall], sse=[wall])) as server:
        with pytest.raises((RayAgentResponseError, RayAgentHTTPError)):
            transport.open(config_of(server), source)
        server.wait_until(lambda: server.open_connections == 0)
        assert [request.route for request in server.requests] == [ROUTES[source]]
        assert server.bytes_sent < FEW_BYTES


def test_a_redirect_that_is_not_followed_is_not_read(transport: Transport) -> None:
    with ScriptedAgent(Job(), answers={GET: [long_answer(302)]}) as server:
        with pytest.raises(RayAgentHTTPError, match="a redirect to"):
            transport.send(config_of(server), AGENT.get_job(JobId("j1")))
        server.wait_until(lambda: server.open_connections == 0)
        assert server.bytes_sent < FEW_BYTES


def test_a_whole_log_that_arrives_byte_by_byte_times_out(transport: Transport) -> None:
    full = Play(Wire(HEAD.format(200)), Repeat(b"1\r\n.\r\n"))
    with (
        ScriptedAgent(Job(full=[full])) as server,
        pytest.raises(RayAgentTimeoutError, match="comes too slowly"),
    ):
        transport.whole_log(config_of(server))


def test_an_endless_whole_log_is_given_up(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MAX_LOG_BYTES", 20_000_000)
    full = Play(Wire(HEAD.format(200)), FAST)
    with (
        ScriptedAgent(Job(full=[full])) as server,
        pytest.raises(RayAgentConnectionError, match="Reading the log failed"),
    ):
        transport.whole_log(config_of(server))


def test_a_log_that_is_too_long_for_a_string_is_an_error(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HELD_LOG_CHARS", len(TEXT) - 1)
    with (
        ScriptedAgent(Job(TEXT)) as server,
        pytest.raises(RayAgentResponseError, match=r"more than .* characters: read it line by line"),
    ):
        transport.held_log(config_of(server))


def test_the_status_is_polled_while_the_whole_log_arrives_slowly(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole log is requested for a comparison with the stream; meanwhile the job ends."""
    monkeypatch.setattr(limits, "LOG", Limit(60.0, 100_000_000_000))
    job = Job(
        TEXT, "RUNNING", ws=[Play(Follow(), Hold())], full=[Play(Wire(HEAD.format(200)), Repeat(b"1\r\n\xff\r\n"))]
    )

    def on_request(request: Request) -> None:
        if len(server.of(GET)) > 3:
            job.full = [DEFAULT]
            job.set_status("SUCCEEDED")

    with ScriptedAgent(job) as server:
        server.on_request = on_request
        lines, following = transport.follow(config_of(server), "websocket")
    assert (lines, following.end) == (LINES, End.JOB_ENDED)


def in_two_parts(framing: str) -> tuple[bytes, bytes]:
    """Return a response with :data:`TEXT`, parted within its body."""
    head, body = HEAD.format(200).encode(), TEXT.encode()
    if framing == "length":
        head = head.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % len(body))
        return head + body[:100], body[100:]
    if framing == "within a chunk":
        return head + b"%x\r\n" % len(body) + body[:100], body[100:] + b"\r\n0\r\n\r\n"
    parts = [body[:100], body[100:]]
    if framing == "compressed chunks":
        head = head.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        gzip = zlib.compressobj(wbits=31)
        parts = [gzip.compress(parts[0]) + gzip.flush(zlib.Z_SYNC_FLUSH), gzip.compress(parts[1]) + gzip.flush()]
    first, second = (b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return head + first, second + b"0\r\n\r\n"


@pytest.mark.parametrize("framing", ["length", "chunks", "within a chunk", "compressed chunks"])
def test_the_status_is_polled_while_the_whole_log_stalls(
    transport: Transport, framing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LOG", Limit(60.0, 100_000_000_000))
    polled = threading.Event()
    first, second = in_two_parts(framing)
    job = Job(TEXT, "RUNNING", full=[Play(Wire(first), WaitFor(polled), Wire(second)), DEFAULT])
    readings: list[int] = []

    def on_request(request: Request) -> None:
        if len(server.of(GET)) > 3 and not polled.is_set():
            readings.append(len(server.of(WHOLE)))
            job.set_status("SUCCEEDED")
            polled.set()

    with ScriptedAgent(job) as server:
        server.on_request = on_request
        lines, following = transport.follow(config_of(server), "http", sources=())
    assert (lines, following.end) == (LINES, End.JOB_ENDED)
    assert readings == [1]


def test_a_whole_log_that_stalls_times_out(transport: Transport) -> None:
    full = Play(Wire(in_two_parts("chunks")[0]), Silence())
    with (
        ScriptedAgent(Job(full=[full])) as server,
        pytest.raises(RayAgentTimeoutError),
    ):
        transport.whole_log(config_of(server, read_timeout=0.2))


class Huge(Action):
    """The start of a frame of 2**62 bytes or, as an event, of an unterminated line."""

    async def run(self, x: Exchange) -> None:
        await x.ready()
        if isinstance(x, WsExchange):
            await x.body(bytes((0x81, 127)) + (2**62).to_bytes(8, "big") + b"x" * 1000)
        else:
            await x.body(b"data: " + b"x" * 200_000)


class Endless(Action):
    """An endless sequence of fragments, or of lines of an event."""

    async def run(self, x: Exchange) -> None:
        await x.ready()
        piece = b"data: x\n" * 100
        if isinstance(x, WsExchange):
            await x.body(frames.frame(frames.TEXT, b"", fin=False))
            piece = frames.frame(frames.CONTINUATION, b"x" * 1000, fin=False)
        while True:
            await x.body(piece)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("message", [Huge(), Endless()], ids=["huge", "endless"])
def test_a_message_that_is_too_long_is_read_from_the_whole_log(
    transport: Transport, source: StreamSource, message: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_logs, "SseDecoder", functools.partial(SseDecoder, 100_000))
    monkeypatch.setattr(live_logs, "FrameDecoder", functools.partial(FrameDecoder, 100_000))
    play = Play(Log(TEXT[:100]), message, Hold())
    job = Job(TEXT, "RUNNING", ws=[play], sse=[play])

    def on_request(request: Request) -> None:
        # What the stream did not bring is read while the job runs, and is not left to its end.
        if len(server.of(WHOLE)) > 2 and job.text == TEXT:
            job.grow("x\n")
            job.set_status("SUCCEEDED")

    with ScriptedAgent(job) as server:
        server.on_request = on_request
        lines, following = transport.follow(config_of(server), source)
        assert (lines, following.end) == ([*LINES, "x"], End.JOB_ENDED)
        assert len(server.of(ROUTES[source])) == 1


def test_a_flood_of_pings_from_a_peer_that_does_not_read_does_not_block(transport: Transport) -> None:
    """A pong for each ping would fill the peer's buffers; the next pong would then block until the peer reads."""
    pings = Play(StopReading(), *[Wire(frames.frame(frames.PING, b"p" * 125) * 500)] * 80, Log("last"), Hold())
    with ScriptedAgent(Job(TEXT, "RUNNING", ws=[pings])) as server:
        assert transport.messages(config_of(server), "websocket", bool)[0].message == "last"


def test_a_stream_ends_if_its_peer_does_not_read_pongs(transport: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []

    def long_frame(opcode: int, payload: bytes = b"") -> bytes:
        sent.append(opcode)
        return b"x" * MANY_BYTES

    monkeypatch.setattr(live_logs, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(live_logs, "control_frame", long_frame)
    with ScriptedAgent(Job(TEXT, "RUNNING", ws=[Play(StopReading(), Ping(), Repeat(b"", 1))])) as server:
        with pytest.raises(StreamEndedError):
            transport.messages(config_of(server), "websocket", bool)
        assert sent == [frames.PONG, frames.CLOSE]
