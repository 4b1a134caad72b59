"""What the button "Test" and ``airflow connections test`` say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from tests.scripted import Answer, Html, Play, Redirect, Refuse, Reset, ScriptedAgent, Silence, Step
from tests.unit.support import NO_AGENT, TOKEN, named

if TYPE_CHECKING:
    from tests.unit.support import Connect

GPU = {"message": "Ray is not available: connection refused", "error_type": "ray_unavailable"}


def verdict(connect: Connect, agent: ScriptedAgent | str, **parts: Any) -> tuple[bool, str]:
    connect(agent, **parts)
    with RayAgentHook() as hook:
        good, words = hook.test_connection()
    assert TOKEN not in words
    return good, words


def health(connect: Connect, step: Step, **parts: Any) -> tuple[bool, str]:
    with ScriptedAgent(answers={"GET health/": [step]}) as agent:
        return verdict(connect, agent, **parts)


def test_an_agent_that_is_well_is_told_with_its_address(connect: Connect) -> None:
    with ScriptedAgent(token=TOKEN) as agent:
        assert verdict(connect, agent) == (True, f"Connected to an agent at {agent.url}.")


@pytest.mark.parametrize(
    "body",
    [
        {"version": "2026.2.17"},
        {"agent_version": "2026.2.17", "status": "ok"},
        {"status": "healthy", "version": "2026.2.17", "ray": {"status": "ok", "version": "2.60.0"}},
        {"version": "2026.2.17", "ray_status": True},
    ],
)
def test_the_version_is_shown_if_there_is_one(body: dict[str, Any], connect: Connect) -> None:
    good, words = health(connect, Answer(200, body))
    assert good
    assert "agent 2026.2.17" in words


def test_a_name_that_is_not_known_is_told(connect: Connect) -> None:
    good, words = verdict(connect, "http://agent.invalid")
    assert not good
    assert "host name" in words
    assert "Cannot resolve" in words
    assert "check the Service URL (host)" in words


def test_an_address_where_nothing_listens_is_told(connect: Connect) -> None:
    good, words = verdict(connect, NO_AGENT)
    assert not good
    assert "Nothing listens" in words
    assert "check Service URL (host) and port" in words


def test_tls_spoken_to_a_plain_port_is_told(connect: Connect) -> None:
    with ScriptedAgent(connects=[Answer(400, "plain HTTP")]) as agent:
        good, words = verdict(connect, agent.url.replace("http:", "https:"))
    assert not good
    assert "TLS" in words
    assert "begins with http://" in words


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_token_is_told(status: int, connect: Connect) -> None:
    good, words = health(connect, Refuse(status, f"bad token {TOKEN}"))
    assert not good
    assert f"rejected the token ({status})" in words
    assert "check the Token (password)" in words


def test_a_wrong_token_is_told(connect: Connect) -> None:
    with ScriptedAgent(token="another") as agent:
        good, words = verdict(connect, agent)
    assert not good
    assert "rejected the token (401)" in words


def test_a_refused_token_may_be_another_one(connect: Connect) -> None:
    _, words = health(connect, Refuse(401), extra={"user_token": "user-tok", "tenant": "acme"})
    assert "check the Token (password) and the User token (user_token) and the Tenant (tenant)." in words


def test_a_token_that_is_wanted_and_not_there_is_told(connect: Connect) -> None:
    with ScriptedAgent(token=TOKEN) as agent:
        good, words = verdict(connect, agent, password=None)
    assert not good
    assert words == "The agent requires a token (401), but the connection has no Token (password)."


def test_a_link_template_that_is_no_good_is_told_after_all_that_matters_more(connect: Connect) -> None:
    extra = {"job_url": "https://ray.example.com/{job}"}
    with ScriptedAgent(token=TOKEN) as agent:
        good, words = verdict(connect, agent, extra=extra)
    assert not good
    assert words.startswith(f"Connected to an agent at {agent.url}. However, ")
    assert "Job page (job_url)" in words
    for step in (Answer(200, {"ray_status": "down"}), Refuse(401)):
        good, words = health(connect, step, extra=extra)
        assert not good
        assert "job_url" not in words


@pytest.mark.parametrize(
    "step",
    [
        Html(200),
        Html(404),
        Refuse(404),
        Answer(200, []),
        Answer(200, "OK"),
        Answer(200, None),
        Answer(200, 7),
        Answer(204, None),
    ],
    ids=named,
)
def test_something_that_is_no_agent_is_told(step: Step, connect: Connect) -> None:
    good, words = health(connect, step)
    assert not good
    assert "not a Ray agent: check the Service URL (host)" in words


@pytest.mark.parametrize(
    "body",
    [
        {"status": "ok", "ray": {"status": "down"}},
        {"status": "ok", "ray_status": "disconnected"},
        {"status": "ok", "ray": "unavailable"},
        {"status": "ok", "ray": False},
    ],
)
def test_an_agent_that_says_that_ray_is_down_is_told(body: dict[str, Any], connect: Connect) -> None:
    good, words = health(connect, Answer(200, {"version": "1.2", **body}))
    assert not good
    assert words.startswith("Connected to agent 1.2 at ")
    assert "but it reports that Ray is" in words


def test_an_agent_that_is_unwell_itself_is_told(connect: Connect) -> None:
    good, words = health(connect, Answer(200, {"status": "Unhealthy"}))
    assert not good
    assert "it reports that the agent is Unhealthy" in words


@pytest.mark.parametrize("body", [GPU, {"detail": GPU["message"]}])
def test_an_agent_that_answers_503_for_ray_is_told_in_its_words(body: dict[str, Any], connect: Connect) -> None:
    good, words = health(connect, Answer(503, body))
    assert not good
    assert "503" in words
    assert "Ray is not available" in words


def test_a_proxy_whose_agent_is_away_is_told(connect: Connect) -> None:
    good, words = health(connect, Html(502))
    assert not good
    assert "502" in words


def test_a_redirect_elsewhere_is_told(connect: Connect) -> None:
    good, words = health(connect, Redirect("https://login.example/"))
    assert not good
    assert "https://login.example/" in words


@pytest.mark.parametrize(("step", "words"), [(Play(Reset()), "failed"), (Play(Silence()), "No answer")])
def test_an_agent_that_does_not_answer_is_told(step: Step, words: str, connect: Connect) -> None:
    good, said = health(connect, step, extra={"read_timeout": 0.1})
    assert not good
    assert words in said
