"""A token in a file: read at the first request, and again when it changes."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection import credentials
from airflow_provider_rayagent.connection.config import SERVICES, read_config
from airflow_provider_rayagent.connection.credentials import MAX_TOKEN_BYTES
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentHTTPError,
    RayAgentServerError,
)
from airflow_provider_rayagent.services.validation import JobId
from airflow_provider_rayagent.transport.aio import AsyncServiceClient
from airflow_provider_rayagent.transport.blocking import BlockingServiceClient
from tests.scripted import DEFAULT, Job, Log, Play, Redirect, Refuse, Reset, ScriptedAgent
from tests.stack.watch import PATIENCE
from tests.unit.token_files import MountedToken
from tests.unit.transports import GET, GET_JOB, SOURCES, STOP_JOB

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_rayagent.connection.config import ServiceConfig
    from airflow_provider_rayagent.tail.commands import StreamSource
    from tests.scripted import Request, Step
    from tests.unit.transports import Transport

OLD, NEW = "old-s3cret-token", "new-s3cret-token"


@pytest.fixture
def mounted(tmp_path: Path) -> MountedToken:
    return MountedToken(tmp_path, OLD)


def reread_after(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a token file be read again after some seconds, or at once if the token was rejected."""
    monkeypatch.setattr(credentials, "REREAD_SECONDS", seconds)


def config_of(server: ScriptedAgent | str, path: Path | str, **parts: Any) -> ServiceConfig:
    host, service = (server, "agent") if isinstance(server, str) else (server.url, server.service)
    return read_config(host=host, extra={"token_file": str(path), "service": service}, **parts)


def rotation(server: ScriptedAgent, mounted: MountedToken) -> None:
    """Replace the token that the server demands, and the one in the file."""
    server.token = NEW
    mounted.replace(NEW)


def refused(server: ScriptedAgent) -> list[int | None]:
    return [request.status for request in server.requests if request.status in (401, 403)]


@pytest.mark.parametrize(("service", "sent"), [("agent", OLD), ("ray", f"Bearer {OLD}")])
def test_the_token_is_sent_as_one_in_the_connection_is(
    service: Any, sent: str, transport: Transport, mounted: MountedToken
) -> None:
    with ScriptedAgent(Job(), token=OLD, service=service) as server:
        config = config_of(server, mounted.path)
        assert transport.send(config, SERVICES[service].get_job(JobId("j1")))["status"] == "SUCCEEDED"
        assert server.requests[0].headers["authorization"] == sent
    assert OLD not in repr(config)


@pytest.mark.parametrize("source", SOURCES)
def test_the_token_opens_streams(source: StreamSource, transport: Transport, mounted: MountedToken) -> None:
    with ScriptedAgent(Job("x\n"), token=OLD) as server:
        transport.open(config_of(server, mounted.path), source)
        assert transport.held_log(config_of(server, mounted.path)) == "x\n"


def test_the_token_replaces_an_authorization_among_the_headers(transport: Transport, mounted: MountedToken) -> None:
    with ScriptedAgent(Job(), token=OLD) as server:
        extra = {"token_file": str(mounted.path), "headers": {"AUTHORIZATION": "Basic other", "X-Key": "tést"}}
        transport.send(read_config(host=server.url, extra=extra), GET_JOB)
        assert server.requests[0].headers["authorization"] == OLD
        assert server.requests[0].headers["x-key"] == "tést"


@pytest.mark.parametrize(("content", "token"), [(f" {OLD}\r\n\n", OLD), (f"\ufeff{OLD}", OLD), ("tökén", "tökén")])
def test_a_token_is_what_is_left_without_outer_white_space_and_a_byte_order_mark(
    content: str, token: str, transport: Transport, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    with ScriptedAgent(Job(), token=token) as server:
        transport.send(config_of(server, tmp_path / "token"), GET_JOB)


# Changes


@pytest.mark.parametrize(("seconds", "refusals"), [(0.0, []), (PATIENCE, [403])])
def test_a_job_of_plain_ray_is_followed_while_the_token_changes(
    seconds: float, refusals: list[int], transport: Transport, mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(seconds, monkeypatch)

    def change(request: Request) -> None:
        if request.ended and len(server.of(GET)) == 3 and server.token == OLD:
            rotation(server, mounted)
            job.grow("two\n")
            job.set_status("SUCCEEDED")

    job = Job("one\n", status="RUNNING")
    with ScriptedAgent(job, token=OLD, service="ray") as server:
        server.on_request = change
        lines, following = transport.follow(config_of(server, mounted.path), "websocket")
        assert lines == ["one", "two"]
        assert following.job is not None
        assert following.job["status"] == "SUCCEEDED"
        assert refused(server) == refusals
        assert server.requests[-1].headers["authorization"] == f"Bearer {NEW}"


@pytest.mark.parametrize("source", SOURCES)
def test_a_stream_is_opened_again_after_the_token_has_changed(
    source: StreamSource, transport: Transport, mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(PATIENCE, monkeypatch)

    def change(request: Request) -> Any:
        rotation(server, mounted)
        return Refuse(403)

    def finish(request: Request) -> Any:
        job.set_status("SUCCEEDED")
        return DEFAULT

    steps: list[Step] = [Play(Log("one\n"), Reset()), change, finish]
    job = Job("one\ntwo\n", status="RUNNING", ws=steps, sse=steps)
    with ScriptedAgent(job, token=OLD) as server:
        lines, _ = transport.follow(config_of(server, mounted.path), source)
        assert lines == ["one", "two"]
        assert refused(server) == [403]
        opened = server.of("WS" if source == "websocket" else "GET jobs/j1/logs/stream/")
        assert [request.headers["authorization"] for request in opened] == [OLD, OLD, NEW]


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("call", [GET_JOB, STOP_JOB])
def test_a_rejected_request_is_sent_once_more_with_another_token(
    call: Any, status: int, transport: Transport, mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(PATIENCE, monkeypatch)

    def change(request: Request) -> Any:
        mounted.replace(NEW)
        return Refuse(status)

    with ScriptedAgent(Job(status="RUNNING"), answers={"*": [change, DEFAULT]}) as server:
        transport.send(config_of(server, mounted.path), call)
        assert [request.headers["authorization"] for request in server.requests] == [OLD, NEW]


def test_a_token_that_is_rejected_and_has_not_changed_is_an_error_at_once(
    transport: Transport, mounted: MountedToken
) -> None:
    with ScriptedAgent(Job(), token=NEW) as server:
        with pytest.raises(RayAgentHTTPError, match="answered 401"):
            transport.send(config_of(server, mounted.path), GET_JOB)
        assert len(server.requests) == 1


def test_a_second_rejection_is_an_error(transport: Transport, mounted: MountedToken) -> None:
    def change(request: Request) -> Any:
        mounted.replace(f"token-{len(server.requests)}")
        return Refuse(403)

    with ScriptedAgent(Job(), answers={"*": [change]}) as server:
        with pytest.raises(RayAgentHTTPError, match="answered 403"):
            transport.send(config_of(server, mounted.path), GET_JOB)
        assert len(server.requests) == 2


def test_a_redirected_request_has_the_current_token(
    transport: Transport, mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(0.0, monkeypatch)

    def change(request: Request) -> Any:
        mounted.replace(NEW)
        return Redirect("/jobs/moved/")

    with ScriptedAgent(Job(), Job(job_id="moved"), answers={GET: [change]}) as server:
        transport.send(config_of(server, mounted.path), GET_JOB)
        assert [request.headers["authorization"] for request in server.requests] == [OLD, NEW]


@pytest.mark.parametrize("content", [None, "", "two\nlines", "\u20ac"])
def test_the_last_token_is_used_while_the_file_has_none(
    content: str | None, transport: Transport, mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(0.0, monkeypatch)
    with ScriptedAgent(Job(), token=OLD) as server:
        config = config_of(server, mounted.path)
        transport.send(config, GET_JOB)
        if content is None:
            mounted.remove()
        else:
            mounted.replace(content)
        transport.send(config, GET_JOB)
        rotation(server, mounted)
        transport.send(config, GET_JOB)


async def test_many_requests_that_are_rejected_at_the_same_time_are_all_sent_again(
    mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(PATIENCE, monkeypatch)
    with ScriptedAgent(Job(), token=OLD) as server:
        async with AsyncServiceClient(config_of(server, mounted.path)) as agent:
            await agent.send(GET_JOB)
            rotation(server, mounted)
            await asyncio.gather(*(agent.send(GET_JOB, tries=1) for _ in range(20)))


# Secrets


def test_old_and_new_tokens_are_redacted_and_masked_before_they_are_sent(
    transport: Transport, mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(0.0, monkeypatch)
    masked: list[str] = []
    masked_before: list[list[str]] = []

    def answer(request: Request) -> Any:
        masked_before.append([*masked])
        return Refuse(500, f"{OLD} {NEW} other")

    with ScriptedAgent(Job(), answers={"*": [answer]}) as server:
        config = config_of(server, mounted.path, mask=masked.append)
        redact = replace(config, read_timeout=1.0).redact
        with pytest.raises(RayAgentServerError) as first:
            transport.send(config, GET_JOB)
        mounted.replace(NEW)
        with pytest.raises(RayAgentServerError) as second:
            transport.send(config, GET_JOB)
    assert OLD not in str(first.value)
    assert "*** *** other" in str(second.value)
    assert masked_before == [[OLD], [OLD, NEW]]
    assert redact(f"{OLD} {NEW}") == "*** ***"


def test_the_credentials_after_a_scheme_are_a_secret_of_their_own(transport: Transport, mounted: MountedToken) -> None:
    mounted.replace(f"Token {OLD}")
    with ScriptedAgent(Job(), token=f"Token {OLD}") as server:
        config = config_of(server, mounted.path)
        transport.send(config, GET_JOB)
    assert config.redact(f"x{OLD}x") == "x***x"


# Errors


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"s3cret\nline", "line break"),
        (b"s3cret\x00", "control character"),
        ("s3cret\u20ac".encode(), "a character that a header cannot carry"),
        (b"s3cret\xff", "is not UTF-8 text"),
        (b"s3cret".ljust(MAX_TOKEN_BYTES + 1), "has more than 65,536 bytes"),
    ],
)
def test_a_file_without_a_token_is_an_error_that_says_what_to_do(
    content: bytes | None, problem: str, transport: Transport, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with ScriptedAgent(Job()) as server:
        with pytest.raises(RayAgentConfigError, match=problem) as caught:
            transport.send(config_of(server, path), GET_JOB)
        assert server.requests == []
    assert "Token file (token_file)" in str(caught.value)
    assert str(path) in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert str(caught.value).count(". ") == 1


@pytest.mark.parametrize("path", ["/", "/\0", "/dev/null/token"])
def test_a_path_that_cannot_be_read_is_an_error(path: str, transport: Transport) -> None:
    with pytest.raises(RayAgentConfigError, match=r"Token file \(token_file\) cannot be read: /"):
        transport.send(config_of("http://127.0.0.1:1", path), GET_JOB)


def test_a_file_that_was_missing_is_read_when_it_is_there(transport: Transport, tmp_path: Path) -> None:
    with ScriptedAgent(Job(), token=OLD) as server:
        config = config_of(server, tmp_path / "token")
        with pytest.raises(RayAgentConfigError):
            transport.send(config, GET_JOB)
        MountedToken(tmp_path, OLD)
        transport.send(config, GET_JOB)


@pytest.mark.parametrize("value", [OLD, "token", "~/token", 7, ["/token"], True])
def test_a_value_that_is_no_absolute_path_is_rejected_and_not_shown(value: Any) -> None:
    with pytest.raises(RayAgentConfigError, match="must be an absolute path") as caught:
        read_config(host="agent", extra={"token_file": value})
    assert OLD not in str(caught.value)


def test_a_token_and_a_token_file_are_rejected() -> None:
    with pytest.raises(RayAgentConfigError, match=r"Token \(password\) and a Token file \(token_file\): leave one"):
        config_of("http://agent", "/token", token=OLD)


def test_the_file_is_not_read_with_the_connection(tmp_path: Path) -> None:
    config = config_of("http://agent", tmp_path / "token")
    assert config.headers == {}
    assert config == config_of("http://agent", tmp_path / "token")
    assert config != config_of("http://agent", tmp_path / "other")


def test_requests_that_are_rejected_together_share_a_read(
    mounted: MountedToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of("http://agent", mounted.path)
    token_file = config.token_file
    assert token_file is not None
    reads = []
    read = token_file.read

    def counted() -> None:
        reads.append(1)
        read()

    monkeypatch.setattr(token_file, "read", counted)

    async def run() -> None:
        agent = AsyncServiceClient(config)
        token = await agent._token_header()
        assert len(reads) == 1
        first = asyncio.ensure_future(agent._token_header(rejected=token))
        await asyncio.sleep(0)
        # The read of the first has begun, so the others need another one.
        others = [agent._token_header(rejected=token) for _ in range(50)]
        assert await asyncio.gather(first, *others) == [token] * 51

    asyncio.run(run())
    assert len(reads) == 3


# A file system that does not answer


async def test_a_file_system_that_hangs_does_not_stop_the_event_loop(
    mounted: MountedToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(0.0, monkeypatch)
    answers = threading.Event()
    with ScriptedAgent(Job(), token=OLD) as server:
        config = config_of(server, mounted.path)
        async with (
            AsyncServiceClient(config) as agent,
            AsyncServiceClient(config_of(server, tmp_path / "other")) as other,
        ):
            await agent.send(GET_JOB)
            monkeypatch.setattr(credentials, "READ_SECONDS", 0.1)
            monkeypatch.setattr(credentials, "open_regular_file", lambda _: answers.wait())
            try:
                await agent.send(GET_JOB, tries=1)
                with pytest.raises(RayAgentConfigError, match="was not read within"):
                    await other.send(GET_JOB, tries=1)
            finally:
                # Before the event loop ends, since it waits for its threads.
                answers.set()


@pytest.mark.timeout(PATIENCE)
def test_a_file_system_that_hangs_does_not_block_a_worker(
    mounted: MountedToken, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reread_after(0.0, monkeypatch)
    answers, opened = threading.Event(), []

    def hang(path: str) -> Any:
        opened.append(path)
        answers.wait()
        raise OSError(None, "gone")

    with ScriptedAgent(Job(), token=OLD) as server:
        config = config_of(server, mounted.path)
        with (
            BlockingServiceClient(config) as agent,
            BlockingServiceClient(config_of(server, tmp_path / "other")) as other,
        ):
            agent.send(GET_JOB)
            monkeypatch.setattr(credentials, "READ_SECONDS", 0.1)
            monkeypatch.setattr(credentials, "open_regular_file", hang)
            try:
                for _ in range(3):
                    # The last token is used, and no other thread begins to wait.
                    agent.send(GET_JOB, tries=1)
                    with pytest.raises(RayAgentConfigError, match=r"was not read within 0\.1 seconds"):
                        other.send(GET_JOB, tries=1)
            finally:
                answers.set()
    assert len(opened) == 2
