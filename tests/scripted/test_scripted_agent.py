"""The scripted agent itself: each fault is played as the script says, byte by byte, and nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.scripted import (
    DEFAULT,
    Answer,
    Binary,
    Bulk,
    Close,
    Complete,
    Compressed,
    Do,
    Down,
    Drop,
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
    Sleep,
    Sse,
    Step,
    Text,
    Wire,
    at_cuts,
    at_random,
    by_lines,
    byte_cuts,
    every,
    with_surrogates,
)
from tests.scripted.chunks import as_surrogates, like_ray
from tests.scripted.clients import get, raw_request, read_all, ws_events
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "".join(f"line {n} \U0001f600\n" for n in range(25)) + "no newline"
STREAM, SOCKET = "jobs/j1/logs/stream/", "jobs/j1/logs/"
NODE = "ab" * 28
RAY_LOG = f"api/v0/logs/file?node_id={NODE}&filename=job-driver-j1.log&lines=-1&timeout=290"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_the_nth_request_meets_the_nth_step_and_the_last_repeats() -> None:
    script: list[Step] = [Refuse(503, headers={"Retry-After": "1"}), Html(502), Redirect("/x/"), DEFAULT]
    with ScriptedAgent(Job(polls=["PENDING", "RUNNING"]), answers={"GET jobs/j1/": script}) as agent:
        seen = [get(agent, "jobs/j1/", allow_redirects=False) for _ in range(6)]
        assert [answer.status_code for answer in seen] == [503, 502, 307, 200, 200, 200]
        assert [answer.json()["status"] for answer in seen[3:]] == ["PENDING", "RUNNING", "RUNNING"]
        agent.answers["GET jobs/j1/"] = [lambda request: Answer(200, {"n": request.connection})]
        assert get(agent, "jobs/j1/").json() == {"n": 7}
        agent.answers["*"] = [Refuse(429)]
        assert get(agent, "health/").status_code == 429


def end_of_request(agent: ScriptedAgent) -> str:
    """Return how a request ends; a connection that is reset at once may be so before the request is sent."""
    try:
        return read_all(raw_request(agent, "jobs/j1/"))[1]
    except ConnectionResetError:
        return "reset"


def test_answers_that_break_off_or_never_come() -> None:
    script: list[Step] = [
        Answer(200, {"status": "RUNNING"}, length=500),
        Answer(200, {"status": "RUNNING"}, length=500, reset=True),
        Play(Reset()),
        Play(Drop()),
        Play(Wire("SSH-2.0-x\r\n"), Drop()),
        Play(Silence()),
    ]
    with ScriptedAgent(Job(), answers={"GET jobs/j1/": script}, connects=[Reset(), Drop(), DEFAULT]) as agent:
        assert [end_of_request(agent) for _ in range(2)] == ["reset", "fin"]
        assert agent.requests == []
        answers = [read_all(raw_request(agent, "jobs/j1/")) for _ in range(2)]
        assert [(b"RUNNING" in data, end) for data, end in answers] == [(True, "fin"), (True, "reset")]
        assert [read_all(raw_request(agent, "jobs/j1/")) for _ in range(3)] == [
            (b"", "reset"),
            (b"", "fin"),
            (b"SSH-2.0-x\r\n", "fin"),
        ]
        silent = raw_request(agent, "jobs/j1/")
        silent.settimeout(0.2)
        assert read_all(silent) == (b"", "silent")


def test_the_agent_goes_away_and_comes_back_on_its_port() -> None:
    play = Play(Log("a"), Down(PATIENCE, "restart"))
    with ScriptedAgent(Job(ws=[play, DEFAULT]), Job(job_id="j2", sse=[Hold()])) as agent:
        other = raw_request(agent, "jobs/j2/logs/stream/")
        agent.wait_until(lambda: agent.open_streams["j2"] == 1)
        assert ws_events(agent)[1] == "closed 1012"
        data, end = read_all(other)
        assert (data.endswith(b"0\r\n\r\n"), end) == (True, "fin")
        with pytest.raises(ConnectionRefusedError):
            raw_request(agent, "health/")
        agent.up()
        held = raw_request(agent, "jobs/j2/logs/stream/")
        agent.wait_until(lambda: agent.open_streams["j2"] == 1)
        agent.down(0.05)
        assert read_all(held)[1] == "reset"
        agent.wait_until(lambda: _listens(agent))


def _listens(agent: ScriptedAgent) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        raw_request(agent, "health/").close()
        return True
    return False


def test_the_error_of_a_script_is_raised_at_the_end() -> None:
    agent = ScriptedAgent(Job(ws=[Do(lambda: 1 / 0)])).start()
    raw_request(agent, SOCKET, upgrade=True).close()
    agent.wait_until(lambda: agent.errors)
    with pytest.raises(ZeroDivisionError):
        agent.__exit__(None, None, None)


def test_nothing_is_left_when_it_ends_in_the_middle_of_everything() -> None:
    gc.collect()
    before = _sockets()
    job = Job("a", "RUNNING", timeline=[Sleep(60)], ws=[Hold()], sse=[Play(Bulk(["x" * 9999] * 9999))])
    with ScriptedAgent(job, connects=[DEFAULT] * 4 + [Silence()]) as agent:
        clients = [
            raw_request(agent, path, upgrade=path == SOCKET) for path in (SOCKET, SOCKET, STREAM, "jobs/j1/", "health/")
        ]
        agent.wait_until(lambda: agent.open_streams["j1"] == 3 and agent.open_connections == 5)
    assert agent.open_connections == 0
    assert agent.open_streams["j1"] == 0
    assert read_all(clients.pop(0))[1] == "reset"
    for client in clients:
        client.close()
    assert _sockets() == before


def _sockets() -> set[str]:
    """Return the sockets of this process. The port itself may be another's by now."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the folder itself
            found.add(str(descriptor.readlink()))
    return {target for target in found if target.startswith("socket:")}


@pytest.mark.parametrize("code", [1000, 1006, 4000, 999])
def test_closes_a_websocket_with_any_code(code: int) -> None:
    with ScriptedAgent(Job(ws=[Play(Log("x"), Close(code))])) as agent:
        sock = raw_request(agent, SOCKET, upgrade=True)
        agent.wait_until(lambda: agent.requests and agent.requests[0].messages == 1)
        sock.sendall(b"\x88\x80\0\0\0\0")
        data, end = read_all(sock)
        assert (data[-4:], end) == (b"\x88\x02" + code.to_bytes(2, "big"), "fin")


def test_cuts_in_mid_frame_and_refuses_upgrades() -> None:
    script: list[Step] = [
        Play(Log("a"), Partial(Log("b"), 9), Reset()),
        Play(Log("a"), Drop()),
        Refuse(403),
        Play(Open(accept="wrong"), Log("a")),
    ]
    with ScriptedAgent(Job(ws=script)) as agent:
        assert ws_events(agent)[1] == "ConnectionResetError"
        assert ws_events(agent)[1] == "WebSocketConnectionClosedException"
        for problem in ("403", "Invalid WebSocket Header"):
            with pytest.raises(Exception, match=problem):
                ws_events(agent)
        assert [request.status for request in agent.of("WS")] == [101, 101, 403, 101]


def test_a_quiet_peer_answers_pings_and_a_dead_one_does_not() -> None:
    ping, pong = b"\x89\x81\0\0\0\0p", b"\x8a\x01p"
    with ScriptedAgent(Job(ws=[Hold(), Play(Open(), Silence())])) as agent:
        for answered in (True, False):
            with raw_request(agent, SOCKET, upgrade=True) as sock:
                agent.wait_until(lambda: agent.open_streams["j1"] == 1)
                assert sock.recv(4096).startswith(b"HTTP/1.1 101")
                sock.sendall(ping)
                if answered:
                    assert sock.recv(4096) == pong
                else:
                    sock.settimeout(0.3)
                    with pytest.raises(TimeoutError):
                        sock.recv(4096)
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
        Complete(),
    )

    async def follow(url: str) -> list[str | bytes]:
        async with websockets.connect(url, open_timeout=PATIENCE) as ws:
            return [message async for message in ws]

    with ScriptedAgent(Job(ws=[script])) as agent:
        got = asyncio.run(follow(f"{agent.url.replace('http', 'ws')}{SOCKET}"))
        assert got[0] == got[3] == smile
        assert isinstance(got[1], bytes)
        assert [json.loads(message)["message"] for message in got[1:3]] == ["b", "z" * 500]
        assert got[4:] == ["not JSON", '{"type": "complete"}']
        assert agent.bytes_sent < 1000


def test_sse_in_every_form_and_cut_anywhere() -> None:
    forms = Open(newline="\r\n", bom=True, space=False, multiline=True, event="log", ids=True, cut=2)
    script: list[Step] = [
        Play(forms, Log("x"), Ping(b"hi"), Sse(data="a\nb", end=False), Raw("\r\n")),
        Play(Log("\U0001f600", ascii=False), *map(Raw, byte_cuts("data: \U0001f600", [7, 1])), Drop()),
        Play(Open(framing="close", content_type="text/html"), Text("t")),
    ]
    with ScriptedAgent(Job(sse=script)) as agent:
        assert get(agent, STREAM).content.decode("utf-8-sig") == (
            'event:log\r\nid:1\r\ndata:{"type": "log",\r\ndata:"message": "x"}\r\n\r\n'
            ":hi\r\n\r\ndata:a\r\ndata:b\r\n\r\n"
        )
        data, end = read_all(raw_request(agent, STREAM))
        assert b"7\r\ndata: \xf0\r\n1\r\n\x9f\r\n" in data
        assert (data.endswith(b"\r\n0\r\n\r\n"), end) == (False, "fin")
        html = get(agent, STREAM)
        assert (html.headers["Content-Type"], html.text) == ("text/html", "data: t\n\n")


@pytest.mark.parametrize("sample", ["", "\n", "a", "a\n\nb", TEXT, "\n" * 25, "x" * 50_000 + "\ny"])
def test_pieces_joined_are_the_text(sample: str) -> None:
    for chunker in (by_lines, like_ray, every(3), at_random(7), lambda text: at_cuts(text, [3, 3, 10])):
        assert "".join(chunker(sample)) == sample
    assert b"".join(byte_cuts(sample, [1, 0, 5])) == sample.encode()
    halves = "".join(with_surrogates(every(1))(sample))
    assert halves == as_surrogates(sample)
    assert halves.encode("utf-16", "surrogatepass").decode("utf-16") == sample


def test_surrogate_halves_travel_as_escapes_in_different_messages() -> None:
    with ScriptedAgent(Job("\U0001f600", ws=[Play(Follow(with_surrogates(every(1))))])) as agent:
        messages, _ = ws_events(agent)
    assert [message.partition("message")[2] for message in messages] == ['": "\\ud83d"}', '": "\\ude00"}']


def test_full_text_as_json_cut_or_rewritten() -> None:
    full: list[Step] = [Play(FullText(stop=-3)), Play(Rewrite("new"), Raw(b"\xff\xf0"), Reset()), DEFAULT]
    with ScriptedAgent(Job(TEXT, text_as_json=True, full=full)) as agent:
        assert get(agent, SOCKET).content.decode() == TEXT[:-3]
        assert read_all(raw_request(agent, SOCKET))[1] == "reset"
        assert get(agent, SOCKET).json() == "new"


def ray(*jobs: Job, **parts: Any) -> ScriptedAgent:
    return ScriptedAgent(*jobs, service="ray", **parts)


def test_the_paths_of_ray_are_the_agents_for_scripts_and_counts() -> None:
    job = Job("one\ntwo\n", full=[Play(FullText(stop=5), Drop()), DEFAULT])
    with ray(job, answers={"GET jobs/j1/": [Html(502), DEFAULT]}) as agent:
        assert get(agent, "api/jobs/j1").status_code == 502
        assert get(agent, "api/jobs/j1").json()["driver_node_id"] == NODE
        with pytest.raises(Exception, match=r"ended prematurely|broken"):
            get(agent, RAY_LOG)
        assert get(agent, RAY_LOG).content == b"one\ntwo\n"
        assert [request.route for request in agent.requests] == ["GET jobs/j1/"] * 2 + ["GET jobs/j1/logs/"] * 2
        for path in ("jobs/", "health/", "api/jobs", "api/jobs/j1/"):
            assert get(agent, path).status_code == 404


@pytest.mark.parametrize(
    ("part", "other"),
    [
        # Ray takes it for 1,000.
        ("lines=-1", "lines=0"),
        ("&lines=-1", ""),
        ("timeout=290", "timeout=30"),
        ("timeout=290", "timeout=300"),
        (NODE, "cd" * 28),
        ("j1.log", "j2.log"),
        ("290", "290&filter_ansi_code=true"),
    ],
)
def test_a_log_of_ray_that_may_be_incomplete_is_refused_before_its_script(part: str, other: str) -> None:
    with ray(Job("x\n", full=[Drop()])) as agent:
        assert get(agent, RAY_LOG.replace(part, other)).status_code == 500


@pytest.mark.parametrize(
    ("log", "lines", "expected"),
    [("a\nb\nc\n", 2, "b\nc\n"), ("a\nb\nc", 1, "c"), ("a\n\n", 1, "\n"), ("a\nb\n", 9, "a\nb\n"), ("", 1, "")],
)
def test_the_last_lines_of_a_log_of_ray(log: str, lines: int, expected: str) -> None:
    with ray(Job(log)) as agent:
        assert get(agent, RAY_LOG.replace("lines=-1", f"lines={lines}")).text == expected


def test_the_token_of_ray_is_a_bearers() -> None:
    with ray(Job(), token="s3cret") as agent:
        answers = [
            get(agent, "api/jobs/", headers={"Authorization": value} if value else {}).status_code
            for value in ("", "s3cret", "bearer s3cret", "Bearer s3cret")
        ]
        assert answers == [401, 403, 403, 200]
        assert get(agent, "api/gcs_healthz").text == "success"
