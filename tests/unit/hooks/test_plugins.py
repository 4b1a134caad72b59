"""Running plugins, by the blocking and by the asyncio hook: what is sent, what comes back, what is never sent twice."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import (
    RayAgentConnectionError,
    RayAgentHTTPError,
    RayAgentInputError,
    RayAgentNotFoundError,
    RayAgentResourcesError,
    RayAgentResponseError,
    RayAgentServerError,
    RayAgentTimeoutError,
)
from tests.scripted import DEFAULT, Answer, Drop, Html, Play, Redirect, Refuse, Reset, Silence, Step
from tests.unit.support import TOKEN, named

if TYPE_CHECKING:
    from tests.unit.hooks.conftest import Ask
    from tests.unit.support import Serve

RUN = "POST plugin_releases/train@1.0/run/"
DEBUG = "POST plugin_releases/run_debug/"
LIST = "GET plugin_releases/"
GET = "GET plugin_releases/train@1.0"
RELEASE = {"plugin": "train", "version": "1.0"}
CALLS: list[tuple[str, tuple[str, ...], str]] = [
    ("run_plugin_release", ("train@1.0", "train"), RUN),
    ("run_debug_plugin_release", ("train",), DEBUG),
]


@pytest.mark.parametrize("wants_a_slash", [False, True])
def test_the_releases_are_listed_and_shown(wants_a_slash: bool, ask: Ask, serve: Serve) -> None:
    shown: dict[str, list[Step]] = {GET: [Answer(200, RELEASE)]}
    if wants_a_slash:
        shown = {GET: [Redirect("/plugin_releases/train@1.0/")], f"{GET}/": [Answer(200, RELEASE)]}
    agent = serve(answers={LIST: [Answer(200, {"count": 1, "results": [RELEASE]})], **shown})
    assert ask("list_plugin_releases") == [RELEASE]
    assert ask("get_plugin_release", "train@1.0") == RELEASE
    assert [request.route for request in agent.requests] == [LIST, *shown]


def test_a_run_sends_the_clients_body_and_returns_the_answer(ask: Ask, serve: Serve) -> None:
    more = {"requirements": ["torch"], "job_id": "train-1", "language": "en"}
    answer = {"job_id": "train-1", "status": "QUEUED"}
    agent = serve(answers={RUN: [Answer(202, answer)], DEBUG: [Answer(200, answer)]}, token=TOKEN)
    assert ask("run_plugin_release", "train@1.0", "train", {"epochs": 3}, **more) == answer
    source = {"plugin_path": "/plugins/train", "config": {"a": 1}, "modules": {"m": "pass"}}
    assert ask("run_debug_plugin_release", "train", {"epochs": 3}, **more, **source) == answer
    body = {"action": "train", "params": {"epochs": 3}, **more}
    assert [request.route for request in agent.requests] == [RUN, DEBUG]
    assert [json.loads(request.body) for request in agent.requests] == [body, {**body, **source}]
    assert agent.requests[0].headers["authorization"] == TOKEN


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        (Answer(200, {"any": "object"}), {"any": "object"}),
        (Answer(200, "raysubmit_1"), {"answer": "raysubmit_1"}),
        (Answer(200, "Job accepted."), {"answer": "Job accepted."}),
        (Answer(200, ["j1"]), {"answer": ["j1"]}),
        (Answer(200, b"null"), {}),
        (Answer(202, b""), {}),
        (Answer(204, None), {}),
    ],
    ids=named,
)
def test_a_run_that_was_taken_is_no_error_whatever_the_answer(
    answer: Answer, value: dict[str, Any], ask: Ask, serve: Serve
) -> None:
    serve(answers={RUN: [answer]})
    assert ask("run_plugin_release", "train@1.0", "train") == value


@pytest.mark.parametrize(("method", "arguments", "route"), CALLS)
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Play(Reset()), RayAgentConnectionError),
        (Play(Drop()), RayAgentConnectionError),
        (Play(Silence()), RayAgentTimeoutError),
        (Answer(200, b'{"job', length=500), RayAgentConnectionError),
        (Refuse(502), RayAgentServerError),
        (Refuse(503), RayAgentServerError),
        (Answer(503, {"message": "later", "error_type": "maintenance"}), RayAgentServerError),
        (Refuse(429), RayAgentHTTPError),
        (Refuse(404, "no plugin 'train'"), RayAgentNotFoundError),
        (Html(200), RayAgentResponseError),
    ],
    ids=named,
)
def test_a_run_that_may_have_been_received_is_never_sent_again(
    method: str, arguments: tuple[str, ...], route: str, fault: Step, error: Any, ask: Ask, serve: Serve
) -> None:
    agent = serve(
        answers={route: [fault, Answer(200, {})]}, extra={"read_timeout": 0.3} if error is RayAgentTimeoutError else {}
    )
    with pytest.raises(error) as caught:
        ask(method, *arguments)
    assert caught.type is error
    agent.wait_until(lambda: agent.of(route))
    assert len(agent.of(route)) == 1


@pytest.mark.parametrize("timeout", [(5.0, 0.2), (5, 30)])
def test_a_call_can_have_a_timeout_of_its_own(timeout: tuple[float, float], ask: Ask, serve: Serve) -> None:
    agent = serve(answers={RUN: [Answer(200, {}, delay=1)]}, extra={"read_timeout": 0.1})
    if timeout[1] > 1:
        assert ask("run_plugin_release", "train@1.0", "train", timeout=timeout) == {}
    else:
        with pytest.raises(RayAgentTimeoutError, match=r"within 0\.2 seconds"):
            ask("run_plugin_release", "train@1.0", "train", timeout=timeout)
    agent.wait_until(lambda: agent.open_connections == 0)


@pytest.mark.parametrize(("method", "arguments", "route"), CALLS)
@pytest.mark.parametrize("nested", [False, True])
def test_missing_gpus_are_an_error_of_their_own_that_says_what_is_missing(
    method: str, arguments: tuple[str, ...], route: str, nested: bool, ask: Ask, serve: Serve
) -> None:
    body = {"message": "No GPU is free", "error_type": "gpu_unavailable", "max_utilization": 0.97, "token": TOKEN}
    answer = Answer(503, {"detail": body} if nested else body)
    agent = serve(answers={route: [answer, DEFAULT]})
    with pytest.raises(RayAgentResourcesError) as caught:
        ask(method, *arguments)
    assert len(agent.requests) == 1
    assert caught.value.status_code == 503
    assert "No GPU is free (max_utilization: 0.97" in caught.value.detail
    assert TOKEN not in caught.value.detail
    assert pickle.loads(pickle.dumps(caught.value)).detail == caught.value.detail


@pytest.mark.parametrize(
    ("arguments", "more", "word"),
    [
        (("a/b", "train"), {}, "lookup"),
        (("train", ""), {}, "action"),
        (("train", "train"), {"job_id": "a b"}, "job id"),
        (("train", "train", {"x": object()}), {}, "params"),
        (("train", "train"), {"timeout": 5}, "timeout"),
    ],
)
def test_what_cannot_be_sent_is_refused_before_anything_is_sent(
    arguments: tuple[Any, ...], more: dict[str, Any], word: str, ask: Ask, serve: Serve
) -> None:
    agent = serve()
    with pytest.raises(RayAgentInputError, match=word):
        ask("run_plugin_release", *arguments, **more)
    assert (agent.connections, agent.requests) == (0, [])
