"""The scripted agent itself: its streams, byte by byte."""

from __future__ import annotations

import asyncio
import json
import socket
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import (
    DEFAULT,
    Binary,
    Bulk,
    Close,
    Complete,
    Compressed,
    Drop,
    Event,
    Follow,
    Fragmented,
    FullText,
    Hold,
    Html,
    Job,
    Log,
    Open,
    Partial,
    Ping,
    Play,
    Raw,
    Redirect,
    Refuse,
    Reset,
    Rewrite,
    ScriptedAgent,
    Silence,
    Sse,
    Step,
    Text,
    as_surrogates,
    at_cuts,
    at_random,
    by_lines,
    byte_cuts,
    every,
    like_ray,
    with_surrogates,
)
from tests.scripted.clients import body_of, get, raw_request, read_all, text_of, ws_events
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "".join(f"line {n} \U0001f600\n" for n in range(25)) + "no newline"


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1009, 1011, 1012, 4000, 999])
def test_closes_a_websocket_with_any_code(code: int) -> None:
    with ScriptedAgent(Job(ws=[Play(Log("x"), Close(code))])) as agent:
        sock = raw_request(agent, "jobs/j1/logs/", upgrade=True)
        agent.wait_until(lambda: agent.requests and agent.requests[0].messages == 1)
        sock.sendall(b"\x88\x80\0\0\0\0")
        data, end = read_all(sock)
        assert (data[-4:], end) == (b"\x88\x02" + code.to_bytes(2, "big"), "fin")


def test_cuts_in_mid_frame_and_refuses_upgrades() -> None:
    script: list[Step] = [
        Play(Log("a"), Partial(Log("b"), 9), Reset()),
        Play(Log("a"), Drop()),
        Refuse(403),
        Html(426),
        Redirect("/login"),
        Play(Open(accept="wrong"), Log("a")),
    ]
    with ScriptedAgent(Job(ws=script)) as agent:
        assert ws_events(agent)[1] == "ConnectionResetError"
        assert ws_events(agent)[1] == "WebSocketConnectionClosedException"
        for status in (403, 426):
            with pytest.raises(Exception, match=str(status)):
                ws_events(agent)
        assert read_all_head(agent).startswith(b"HTTP/1.1 307")
        with pytest.raises(Exception, match="Invalid WebSocket Header"):
            ws_events(agent)
        assert [request.status for request in agent.of("WS")] == [101, 101, 403, 426, 307, 101]


def read_all_head(agent: ScriptedAgent) -> bytes:
    with raw_request(agent, "jobs/j1/logs/", upgrade=True) as sock:
        return sock.recv(4096)


def test_a_quiet_peer_answers_pings_and_a_dead_one_does_not() -> None:
    import websocket

    with ScriptedAgent(Job(ws=[Hold(), Play(Open(), Silence())])) as agent:
        for heard in (True, False):
            ws: Any = websocket.create_connection(f"{agent.ws_url}jobs/j1/logs/", timeout=PATIENCE)
            ws.ping("p")
            if heard:
                assert ws.recv_data(control_frame=True) == (websocket.ABNF.OPCODE_PONG, b"p")
            else:
                ws.settimeout(0.3)
                with pytest.raises(websocket.WebSocketTimeoutException):
                    ws.recv_data(control_frame=True)
            assert agent.open_streams["j1"] == 1
            ws.shutdown()
            agent.wait_until(lambda: agent.open_streams["j1"] == 0)
        assert agent.max_open_streams["j1"] == 1


def test_frames_fragmented_binary_compressed_and_pings_between() -> None:
    import websockets

    smile = '{"type": "log", "message": "\U0001f600"}'
    script = Play(
        Fragmented(smile, 1),
        Binary(Log("b")),
        Ping(),
        Compressed(Log("z" * 500)),
        Fragmented([smile[:20], smile[20:]]),
        Text("not JSON"),
        Event([1]),
        Complete(),
    )
    plain = Play(Open(cut=3, compress=True), Log("z" * 500, ascii=False), Close(1001))

    async def follow(url: str) -> list[str | bytes]:
        async with websockets.connect(url, open_timeout=PATIENCE) as ws:
            return [message async for message in ws]

    with ScriptedAgent(Job(ws=[script, plain])) as agent:
        url = f"{agent.ws_url}jobs/j1/logs/"
        got = asyncio.run(follow(url))
        assert got[0] == got[3] == smile
        assert isinstance(got[1], bytes)
        assert [json.loads(m)["message"] for m in got[1:3]] == ["b", "z" * 500]
        assert got[4:] == ["not JSON", "[1]", '{"type": "complete"}']
        sent = agent.bytes_sent
        assert text_of([str(m) for m in asyncio.run(follow(url))]) == "z" * 500
        assert agent.bytes_sent - sent < 450
        assert text_of(ws_events(agent)[0]) == "z" * 500


def test_sse_in_every_form_and_cut_anywhere() -> None:
    play = Play(
        Open(newline="\r\n", bom=True, space=False, multiline=True, event="log", ids=True, cut=2),
        Log("x"),
        Sse(comment="hi", retry=5),
        Sse(data="a\nb", id="9", event="e", end=False),
        Raw("\r\n"),
    )
    torn = Play(
        Log("\U0001f600", ascii=False), *(Raw(piece) for piece in byte_cuts("data: \U0001f600", [7, 1])), Drop()
    )
    with ScriptedAgent(
        Job(sse=[play, torn, Play(Open(framing="close", content_type="text/html"), Text("t"))])
    ) as agent:
        data, _ = read_all_keep_alive(agent)
        assert body_of(data).decode("utf-8-sig") == (
            'event:log\r\nid:1\r\ndata:{"type": "log",\r\ndata:"message": "x"}\r\n\r\n'
            ":hi\r\nretry:5\r\n\r\nevent:e\r\nid:9\r\ndata:a\r\ndata:b\r\n\r\n"
        )
        data, end = read_all(raw_request(agent, "jobs/j1/logs/stream/"))
        assert (b"7\r\ndata: \xf0\r\n1\r\n\x9f\r\n" in data, data.endswith(b"\r\n0\r\n\r\n"), end) == (
            True,
            False,
            "fin",
        )
        html = get(agent, "jobs/j1/logs/stream/")
        assert (html.headers["Content-Type"], html.text) == ("text/html", "data: t\n\n")


def read_all_keep_alive(agent: ScriptedAgent) -> tuple[bytes, str]:
    sock = raw_request(agent, "jobs/j1/logs/stream/")
    agent.wait_until(lambda: agent.requests and agent.requests[-1].ended)
    sock.shutdown(socket.SHUT_WR)
    return read_all(sock)


def test_a_slow_reader_slows_the_play() -> None:
    message = "x" * 1000 + "\n"
    with ScriptedAgent(Job(ws=[Play(Bulk([message] * 3000), Complete())]), send_buffer=32_768) as agent:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        sock.connect(("127.0.0.1", agent.port))
        sock.sendall(b"GET /jobs/j1/logs/ HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n")
        agent.wait_until(lambda: agent.is_held_up)
        assert agent.bytes_sent < 1_000_000
        assert len(read_all(sock)[0]) > 3_000_000


def test_a_bulk_is_whole_and_a_generated_log_is_never_held() -> None:
    def lines() -> Iterator[str]:
        for block in range(100):
            yield "".join(f"{block} {n}\n" for n in range(5000))

    with ScriptedAgent(Job(sse=[Play(Bulk(["a line\n"] * 200_000))]), Job(lines, job_id="j2")) as agent:
        for _ in range(2):
            assert get(agent, "jobs/j1/logs/stream/").content.count(b"\n\n") == 200_000
        assert agent.requests[-1].messages == 200_000
        tracemalloc.start()
        try:
            for path in ("jobs/j2/logs/", "jobs/j2/logs/stream/"):
                with get(agent, path, stream=True) as answer:
                    got = b"".join(block.replace(b"\\n", b"\n")[:0] or b"\n" * block.count(b"\n") for block in answer)
                assert len(got) >= 50_000
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("sample", ["", "\n", "a", "a\n\nb", TEXT, "\n" * 25, "x" * 50_000 + "\ny"])
def test_pieces_joined_are_the_text(sample: str) -> None:
    for chunker in (by_lines, like_ray, every(3), at_random(7), lambda text: at_cuts(text, [3, 3, 10])):
        assert "".join(chunker(sample)) == sample
    assert b"".join(byte_cuts(sample, [1, 0, 5])) == sample.encode()
    halves = "".join(with_surrogates(every(1))(sample))
    assert halves == as_surrogates(sample)
    assert halves.encode("utf-16", "surrogatepass").decode("utf-16") == sample


def test_surrogate_halves_travel_as_escapes_in_different_messages() -> None:
    job = Job("\U0001f600", ws=[Play(Follow(with_surrogates(every(1))))])
    with ScriptedAgent(job) as agent:
        messages, _ = ws_events(agent)
    assert [message.partition("message")[2] for message in messages] == ['": "\\ud83d"}', '": "\\ude00"}']


def test_full_text_as_json_cut_or_rewritten() -> None:
    job = Job(
        TEXT,
        text_as_json=True,
        full=[Play(FullText(stop=-3)), Play(Rewrite("new"), Raw(b"\xff\xf0"), Reset()), DEFAULT],
    )
    with ScriptedAgent(job) as agent:
        assert get(agent, "jobs/j1/logs/").content.decode() == TEXT[:-3]
        assert read_all(raw_request(agent, "jobs/j1/logs/"))[1] == "reset"
        assert get(agent, "jobs/j1/logs/").json() == "new"
