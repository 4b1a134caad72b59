"""The scripted agent itself: its routes, scripts, cues, counts and end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.scripted import (
    DEFAULT,
    Answer,
    Application,
    Bulk,
    Complete,
    Do,
    Down,
    Drop,
    Follow,
    Grow,
    Hold,
    Html,
    Job,
    Log,
    Play,
    Redirect,
    Refuse,
    Reset,
    Rewrite,
    ScriptedAgent,
    SetStatus,
    Silence,
    Sleep,
    Step,
    WaitFor,
    Wire,
)
from tests.scripted.__main__ import main
from tests.scripted.clients import get, raw_request, read_all, text_of, ws_events
from tests.scripted.scenarios import SCENARIOS
from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = "".join(f"line {n} \U0001f600\n" for n in range(25)) + "no newline"


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def test_serves_a_finished_job_well_without_a_script() -> None:
    with ScriptedAgent(Job(TEXT)) as agent:
        details = get(agent, "jobs/j1/").json()
        assert (details["status"], details["submission_id"], details["driver_exit_code"]) == ("SUCCEEDED", "j1", 0)
        assert get(agent, "jobs/").json() == [details]
        full = get(agent, "jobs/j1/logs/")
        assert full.content.decode() == TEXT
        assert full.headers["Content-Type"] == "text/plain; charset=utf-8"
        messages, end = ws_events(agent)
        assert (text_of(messages), end) == (TEXT, "WebSocketConnectionClosedException")
        assert json.loads(messages[-1]) == {"type": "complete"}
        events = get(agent, "jobs/j1/logs/stream/").text.split("\n\n")
        assert text_of([event.removeprefix("data: ") for event in events if event]) == TEXT


def test_plain_routes_and_unknown_things() -> None:
    app = Application("a b", gone_after=0.3)
    with ScriptedAgent(Job(), Job(job_id="d", type="DRIVER"), applications=[app], base_path="/api/x") as agent:
        import requests

        assert agent.url.endswith("/api/x/")
        for path in ("nodes/", "tasks/", "gpu_status/", "health/", f"nodes/{agent.nodes[0]['node_id']}/"):
            assert get(agent, path).status_code == 200
        for path in ("jobs/nope/", "jobs/nope/logs/", "nodes/nope/", "serve_applications/nope/", "what/"):
            assert get(agent, path).json() == {"detail": "Not Found"}
        assert get(agent, "jobs/d/logs/").status_code == 400
        assert get(agent, "health", allow_redirects=False).headers["Location"] == f"{agent.url}health/"
        assert requests.delete(f"{agent.url}serve_applications/a%20b/", timeout=PATIENCE).status_code == 204
        assert get(agent, "serve_applications/a%20b/").json()["status"] == "DELETING"
        agent.wait_until(lambda: get(agent, "serve_applications/").json() == [])


def test_stop_token_and_details_of_a_job_that_runs() -> None:
    with ScriptedAgent(Job(status="RUNNING", stop_delay=0.1), token="s3cret") as agent:
        import requests

        headers = {"Authorization": "s3cret"}
        assert get(agent, "health/").status_code == 401
        assert get(agent, "health/", headers={"Authorization": "Bearer s3cret"}).status_code == 401
        stop = f"{agent.url}jobs/j1/stop/"
        assert requests.post(stop, headers=headers, timeout=PATIENCE).json() == {"stopped": True}
        agent.wait_until(lambda: agent.jobs["j1"].is_over)
        assert get(agent, "jobs/j1/", headers=headers).json()["status"] == "STOPPED"
        assert requests.post(stop, headers=headers, timeout=PATIENCE).json() == {"stopped": False}
        assert agent.of("POST")[0].headers["authorization"] == "s3cret"


def test_the_nth_request_meets_the_nth_step_and_the_last_repeats() -> None:
    script: list[Step] = [Refuse(503, headers={"Retry-After": "1"}), Html(502), Redirect("/x/"), DEFAULT]
    with ScriptedAgent(Job(polls=["PENDING", "RUNNING"]), answers={"GET jobs/j1/": script}) as agent:
        seen = [get(agent, "jobs/j1/", allow_redirects=False) for _ in range(6)]
        assert [answer.status_code for answer in seen] == [503, 502, 307, 200, 200, 200]
        assert [answer.json()["status"] for answer in seen[3:]] == ["PENDING", "RUNNING", "RUNNING"]
        assert (seen[0].headers["Retry-After"], "<html>" in seen[1].text) == ("1", True)
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
        Answer(200, b'{"sta', content_type="application/json"),
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
        with pytest.raises(ValueError, match="Unterminated"):
            get(agent, "jobs/j1/").json()
        assert [read_all(raw_request(agent, "jobs/j1/")) for _ in range(3)] == [
            (b"", "reset"),
            (b"", "fin"),
            (b"SSH-2.0-x\r\n", "fin"),
        ]
        silent = raw_request(agent, "jobs/j1/")
        silent.settimeout(0.2)
        assert read_all(silent) == (b"", "silent")


def test_a_job_lives_by_its_timeline_and_by_the_tests_cues() -> None:
    def sent(messages: int) -> WaitFor:
        return WaitFor(lambda: agent.requests[-1].messages == messages)

    cue, seen = threading.Event(), threading.Event()
    timeline = [SetStatus("RUNNING"), sent(1), WaitFor(cue), Grow("b"), SetStatus("FAILED", "boom"), sent(2),
                Grow("late"), sent(3), Rewrite("new")]  # fmt: skip
    job = Job(
        "a",
        "PENDING",
        timeline=timeline,
        ws=[Play(Follow(lag=PATIENCE), Complete()), Play(Follow(start="now", lag=0.1))],
    )
    second = Job(
        "old",
        "RUNNING",
        job_id="j2",
        timeline=[sent(1), Rewrite("new")],
        ws=[Play(Do(seen.set), Follow()), DEFAULT],
    )
    with ScriptedAgent(job, second) as agent:
        threading.Timer(0.1, cue.set).start()
        assert text_of(ws_events(agent)[0]) == "ablate"
        details = get(agent, "jobs/j1/").json()
        assert (details["message"], details["driver_exit_code"]) == ("boom", 1)
        assert ws_events(agent) == ([], "closed 1000")
        assert text_of(ws_events(agent, "j2")[0]) == "old"
        assert seen.is_set()
        second.set_status("SUCCEEDED")
        assert text_of(ws_events(agent, "j2")[0]) == second.truth() == "new"


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
        agent.down()
        assert read_all(held)[1] == "reset"
        assert not _listens(agent)
        agent.up()
        assert _listens(agent)
        agent.down(0.05)
        agent.wait_until(lambda: _listens(agent))


def _listens(agent: ScriptedAgent) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", agent.port)) == 0


def test_what_is_not_http_is_counted_and_a_scripts_error_is_raised_at_the_end() -> None:
    agent = ScriptedAgent(Job(ws=[Do(lambda: 1 / 0)])).start()
    with socket.create_connection(("127.0.0.1", agent.port)) as sock:
        sock.sendall(b"\x16\x03\x01\n\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 400")
    assert agent.malformed == 1
    raw_request(agent, "jobs/j1/logs/", upgrade=True).close()
    agent.wait_until(lambda: agent.errors)
    with pytest.raises(ZeroDivisionError):
        agent.__exit__(None, None, None)


def test_nothing_is_left_when_it_ends_in_the_middle_of_everything() -> None:
    gc.collect()
    before = _sockets()
    job = Job("a", "RUNNING", timeline=[Sleep(60)], ws=[Hold()], sse=[Play(Bulk(["x" * 9999] * 9999))])
    with ScriptedAgent(job, connects=[DEFAULT] * 4 + [Silence()]) as agent:
        clients = [raw_request(agent, path, upgrade=path == "jobs/j1/logs/") for path in (
            "jobs/j1/logs/", "jobs/j1/logs/", "jobs/j1/logs/stream/", "jobs/j1/", "health/",
        )]  # fmt: skip
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


def test_waits_in_an_event_loop_too() -> None:
    import httpx

    async def talk(agent: ScriptedAgent) -> int:
        async with httpx.AsyncClient(base_url=agent.url, timeout=PATIENCE) as client:
            answer = await client.get("jobs/j1/")
            await agent.reached(lambda: agent.requests[0].ended)
            return answer.status_code

    with ScriptedAgent(Job()) as agent:
        assert asyncio.run(talk(agent)) == 200
        with pytest.raises(TimeoutError):
            agent.wait_until(lambda: False, timeout=0.01)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_scenario_begins(name: str) -> None:
    scenario = SCENARIOS[name]
    with ScriptedAgent(scenario.job(), answers=scenario.answers) as agent:
        for path, upgrade in (("jobs/j1/logs/", True), ("jobs/j1/logs/stream/", False), ("jobs/j1/", False)):
            with raw_request(agent, path, upgrade=upgrade) as sock:
                sock.recv(10)


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert main(["done", "--for", "0.01"]) == 0
    assert "serves job j1" in capsys.readouterr().out
