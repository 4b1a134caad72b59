"""A trigger's log is masked by Airflow's supervisor of the triggerer, which has to be told each secret."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import msgspec
from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
from airflow.sdk._shared.secrets_masker import redact
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import _ResponseFrame

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from tests.scripted import Job
from tests.stack.processes import NO_AGENT
from tests.stack.watch import PATIENCE
from tests.unit.support import TOKEN
from tests.unit.token_files import MountedToken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    import pytest

    from tests.unit.support import Connect, Serve

SECRETS = {TOKEN, "user-tok-77", "header/val-77"}
FORMS = {*SECRETS, "header%2Fval-77", "header\\/val-77"}
"""Also in URLs and JSON, where the value alone is not found."""


async def supervise(sock: socket.socket, masked: list[object]) -> None:
    """Answer a triggerer's requests; keep what it asks to mask."""
    reader, writer = await asyncio.open_connection(sock=sock)
    while True:
        size = int.from_bytes(await reader.readexactly(4), "big")
        number, body, *_ = msgspec.msgpack.decode(await reader.readexactly(size))
        if body["type"] == "MaskSecret":
            masked.append(body["value"])
        writer.write(_ResponseFrame(id=number).as_bytes())


def masked_in_a_triggerer(work: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return what the supervisor of a triggerer is asked to mask meanwhile."""
    masked: list[object] = []

    async def run() -> None:
        ours, theirs = socket.socketpair()
        supervisor = asyncio.create_task(supervise(theirs, masked))
        reader, writer = await asyncio.open_connection(sock=ours)
        comms = TriggerCommsDecoder(async_writer=writer, async_reader=reader, socket=ours)
        if hasattr(comms, "start_reader"):
            await comms.start_reader()
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        await asyncio.wait_for(work(), PATIENCE)
        supervisor.cancel()
        writer.close()
        theirs.close()

    asyncio.run(run())
    return masked


def test_the_supervisor_is_told_every_secret_of_a_connection(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(NO_AGENT, extra={"user_token": "user-tok-77", "headers": {"X-Key": "header/val-77"}})

    async def work() -> None:
        async with RayAgentAsyncHook() as hook:
            assert set((await hook.get_async_conn()).config.redact.forms) == FORMS

    masked = masked_in_a_triggerer(work, monkeypatch)
    assert [secret for secret in FORMS if secret not in masked] == []


def test_the_supervisor_is_told_every_token_that_is_read_from_a_file(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mounted = MountedToken(tmp_path, "old/s3cret")

    async def work() -> None:
        async with RayAgentAsyncHook() as hook:
            await hook.get_job("j1")
            agent.token = "new/s3cret"
            mounted.replace("new/s3cret")
            await hook.get_job("j1")

    agent = serve(Job(), token="old/s3cret", password=None, extra={"token_file": str(mounted.path)})
    masked = masked_in_a_triggerer(work, monkeypatch)
    forms = {"old/s3cret", "old%2Fs3cret", "new/s3cret", "new%2Fs3cret"}
    assert [form for form in forms if form not in masked] == []


def test_airflow_masks_a_token_that_is_read_from_a_file(serve: Serve, tmp_path: Path) -> None:
    mounted = MountedToken(tmp_path, "file/s3cret-77")
    serve(Job(), token="file/s3cret-77", password=None, extra={"token_file": str(mounted.path)})
    with RayAgentHook() as hook:
        hook.get_job("j1")
    assert redact("print file/s3cret-77 file%2Fs3cret-77") == "print *** ***"
