"""What is refused is refused by a named error in both, with the same status code where the client has one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentStreamLimitError,
)
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook, StreamLimits
from tests.contract.client import Client, TheirError
from tests.contract.conftest import submit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_rayagent.tail.commands import TailSettings
    from airflow_provider_rayagent.transport.blocking_driver import BlockingFollower
    from tests.stack.agent import LocalAgent

Jobs = dict[str, dict[str, Any]]

UNKNOWN = "no-such-thing"
TAILS = ("websocket_tail_job_logs", "stream_tail_job_logs", "tail_job_logs")


class HastyHook(RayAgentHook):
    """Our hook, which waits a minute for a job that is not known yet, in a hurry."""

    def follow_job(self, job_id: str, settings: TailSettings, **options: Any) -> BlockingFollower:
        return super().follow_job(job_id, dataclasses.replace(settings, missing_timeout=0.5), **options)


@contextlib.contextmanager
def chatty_job(agent: LocalAgent, width: int) -> Iterator[str]:
    """Have a job that prints lines of some width until it is stopped."""
    job_id = submit(agent, f"import time\nwhile True: print('x' * {width}, flush=True); time.sleep(0.2)")
    agent.wait(job_id, statuses=("RUNNING",))
    try:
        yield job_id
    finally:
        agent.request("POST", f"jobs/{job_id}/stop/")


def both_refuse(
    client: Client, hook: RayAgentHook, method: str, *args: Any, **options: Any
) -> tuple[TheirError, RayAgentError]:
    """Return the error of each."""
    with pytest.raises(TheirError) as theirs:
        client.call(method, *args, **options)
    with pytest.raises(RayAgentError) as ours:
        list(getattr(hook, method)(*args, **options))
    return theirs.value, ours.value


@pytest.mark.parametrize(
    "method",
    [
        *("get_job", "get_job_logs", "stop_job", "get_node", "get_task"),
        *("get_serve_application", "delete_serve_application"),
    ],
)
def test_what_the_agent_does_not_know_is_404(client: Client, hook: RayAgentHook, method: str) -> None:
    theirs, ours = both_refuse(client, hook, method, UNKNOWN)
    assert theirs.names[0] == "NotFoundError"
    assert isinstance(ours, RayAgentNotFoundError)
    assert ours.status_code == theirs.status_code == 404


@pytest.mark.parametrize("method", TAILS)
def test_the_log_of_an_unknown_job_is_an_error(client: Client, hook: RayAgentHook, method: str) -> None:
    """The client says 503, as to every stream that it does not get; the hook says what it is."""
    theirs, ours = both_refuse(client, HastyHook(hook.rayagent_conn_id), method, UNKNOWN)
    assert (theirs.names[0], theirs.status_code) == ("ClientError", 503)
    assert isinstance(ours, RayAgentNotFoundError)
    assert ours.status_code == 404


@pytest.mark.parametrize("method", TAILS)
@pytest.mark.parametrize("job_id", ["", "../jobs", "a b", "a?b=c", "a%2Fb", "x" * 101], ids=repr)
def test_a_bad_job_id_is_400(client: Client, hook: RayAgentHook, method: str, job_id: str) -> None:
    theirs, ours = both_refuse(client, hook, method, job_id)
    assert isinstance(ours, RayAgentInputError)
    assert ours.status_code == theirs.status_code == 400


@pytest.mark.parametrize("method", TAILS)
@pytest.mark.parametrize("timeout", [0, -1, 300.5, "abc", None])
def test_a_bad_timeout_is_400(client: Client, hook: RayAgentHook, jobs: Jobs, method: str, timeout: Any) -> None:
    theirs, ours = both_refuse(client, hook, method, jobs["prints"]["submission_id"], timeout)
    assert isinstance(ours, RayAgentInputError)
    assert ours.status_code == theirs.status_code == 400


def test_a_protocol_that_does_not_exist_is_400(client: Client, hook: RayAgentHook, jobs: Jobs) -> None:
    job_id = jobs["prints"]["submission_id"]
    theirs, ours = both_refuse(client, hook, "tail_job_logs", job_id, protocol="carrier-pigeon")
    assert isinstance(ours, RayAgentInputError)
    assert ours.status_code == theirs.status_code == 400


@pytest.mark.parametrize(
    ("protocol", "limits", "width"),
    [
        # What was printed before comes as one message of up to 10,000 characters, or as several.
        ("websocket", {"max_messages": 3}, 1),
        ("http", {"max_lines": 3}, 1),
        ("http", {"max_bytes": 12_000}, 1_000),
    ],
)
def test_a_limit_that_the_caller_set_is_429(
    agent: LocalAgent, client: Client, hook: RayAgentHook, protocol: Any, limits: dict[str, int], width: int
) -> None:
    hook.stream_limits = StreamLimits(**limits)
    ours: list[str] = []
    with chatty_job(agent, width) as job_id:
        with pytest.raises(TheirError) as theirs:
            client.call("tail_job_logs", job_id, limits=limits, protocol=protocol)
        with pytest.raises(RayAgentStreamLimitError) as our_error:
            ours.extend(hook.tail_job_logs(job_id, protocol=protocol))
    assert theirs.value.items, "the client yields what is within its limits"
    assert ours, "and so does the hook"
    assert our_error.value.status_code == theirs.value.status_code == 429


@pytest.mark.parametrize("method", ["health_check", "list_jobs"])
def test_a_wrong_token_is_401(client: Client, agent: LocalAgent, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    connection = {"conn_type": "rayagent", "host": agent.url, "password": "wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_RAYAGENT_WRONG", json.dumps(connection))
    with pytest.raises(TheirError) as theirs:
        client.call(method, token="wrong")
    with RayAgentHook("rayagent_wrong") as hook, pytest.raises(RayAgentHTTPError, match="answered 401") as ours:
        getattr(hook, method)()
    assert theirs.value.names[0] == "AuthenticationError"
    assert ours.value.status_code == theirs.value.status_code == 401
