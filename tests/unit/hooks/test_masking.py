"""A trigger's log is masked by Airflow's supervisor of the triggerer, which has to be told each secret."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import msgspec
from airflow.jobs.triggerer_job_runner import TriggerCommsDecoder
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import _ResponseFrame

from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook
from tests.stack.watch import PATIENCE
from tests.unit.support import NO_AGENT, TOKEN

if TYPE_CHECKING:
    import pytest

    from tests.unit.support import Connect

SECRETS = {TOKEN, "user-tok-77", "header/val-77"}
FORMS = {*SECRETS, "header%2Fval-77"}
"""Also in URLs, where the value alone is not found."""


async def supervise(sock: socket.socket, masked: list[object]) -> None:
    """Answer a triggerer's requests; keep what it asks to mask."""
    reader, writer = await asyncio.open_connection(sock=sock)
    while True:
        size = int.from_bytes(await reader.readexactly(4), "big")
        number, body, *_ = msgspec.msgpack.decode(await reader.readexactly(size))
        if body["type"] == "MaskSecret":
            masked.append(body["value"])
        writer.write(_ResponseFrame(id=number).as_bytes())


def test_the_supervisor_is_told_every_secret_of_a_connection(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connect(NO_AGENT, extra={"user_token": "user-tok-77", "headers": {"X-Key": "header/val-77"}})
    masked: list[object] = []

    async def in_a_triggerer() -> None:
        ours, theirs = socket.socketpair()
        supervisor = asyncio.create_task(supervise(theirs, masked))
        reader, writer = await asyncio.open_connection(sock=ours)
        comms = TriggerCommsDecoder(async_writer=writer, async_reader=reader, socket=ours)
        if hasattr(comms, "start_reader"):
            await comms.start_reader()
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        async with RayAgentAsyncHook() as hook:
            config = (await asyncio.wait_for(hook.get_async_conn(), PATIENCE)).config
            assert set(config.redact.forms) == FORMS
        supervisor.cancel()
        writer.close()
        theirs.close()

    asyncio.run(in_a_triggerer())
    assert [secret for secret in FORMS if secret not in masked] == []
