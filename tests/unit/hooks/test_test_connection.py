"""What the button "Test" and ``airflow connections test`` say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import UNENCRYPTED
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from tests.scripted import Answer, Html, Play, Redirect, Refuse, Reset, ScriptedAgent, Silence, Step, ray_dialect
from tests.stack.processes import NO_AGENT
from tests.unit.certificates import Authority, TlsFront
from tests.unit.support import TOKEN, named, remote_url, task_log

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_token_that_others_can_read_is_told(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedAgent(token=TOKEN) as agent:
        url = remote_url(agent, monkeypatch)
        assert verdict(connect, url) == (True, f"Connected to an agent at {url}. {UNENCRYPTED}")


def test_a_task_warns_once_of_a_token_that_others_can_read(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedAgent(token=TOKEN) as agent, task_log() as log:
        for url in (agent.url, remote_url(agent, monkeypatch)):
            connect(url)
            hook = RayAgentHook()
            for _ in range(2):
                with hook:
                    hook.list_jobs()
    assert log.messages == [f"RA-208: The URL {url} is not https. {UNENCRYPTED}"]


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


@pytest.mark.parametrize(
    ("step", "words", "extra"),
    [
        (Refuse(401, f"bad token {TOKEN}"), "rejected the token (401): check the Token (password)", {}),
        (Refuse(403, f"bad token {TOKEN}"), "rejected the token (403): check the Token (password)", {}),
        (Answer(200, {"status": "Unhealthy"}), "it reports that the agent is Unhealthy", {}),
        (Answer(503, GPU), "503: Ray is not available", {}),
        (Answer(503, {"detail": GPU["message"]}), "503: Ray is not available", {}),
        (Html(502), "502", {}),
        (Redirect("https://login.example/"), "https://login.example/", {}),
        (Play(Reset()), "failed", {}),
        (Play(Silence()), "No response", {"read_timeout": 0.1}),
    ],
    ids=named,
)
def test_what_keeps_an_agent_from_being_used_is_told(
    step: Step, words: str, extra: dict[str, Any], connect: Connect
) -> None:
    good, said = health(connect, step, extra=extra)
    assert not good
    assert words in said


def test_a_certificate_of_an_unknown_authority_is_told(connect: Connect, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with ScriptedAgent(token=TOKEN) as agent, TlsFront(authority.issue("server"), agent.port) as front:
        good, words = verdict(connect, front.url)
        assert not good
        assert "TLS handshake with" in words
        assert "as CA bundle (ca_bundle)" in words
        assert verdict(connect, front.url, extra={"ca_bundle": str(authority.bundle)})[0] is True


def test_a_wrong_token_is_told(connect: Connect) -> None:
    with ScriptedAgent(token="another") as agent:
        good, words = verdict(connect, agent)
    assert not good
    assert "rejected the token (401)" in words


def test_a_refused_token_may_be_another_one(connect: Connect) -> None:
    _, words = health(connect, Refuse(401), extra={"user_token": "user-tok", "tenant": "acme"})
    assert "check the Token (password) and the User token (user_token) and the Tenant (tenant)." in words


def test_a_token_file_is_tested(connect: Connect, tmp_path: Path) -> None:
    path = tmp_path / "token"
    with ScriptedAgent(token=TOKEN) as agent:
        missing = verdict(connect, agent, password=None, extra={"token_file": str(path)})
        assert missing[0] is False
        assert f"Token file (token_file) does not exist: {path}. " in missing[1]
        path.write_text("wrong")
        wrong = verdict(connect, agent, password=None, extra={"token_file": str(path)})
        assert wrong == (False, "The agent rejected the token (401): check the Token file (token_file).")
        path.write_text(TOKEN)
        assert verdict(connect, agent, password=None, extra={"token_file": str(path)})[0] is True


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


RAY = {"service": "ray"}
JOBS = "GET jobs/rayagent-connection-test/"


def dashboard(connect: Connect, answers: dict[str, Step], **parts: Any) -> tuple[bool, str]:
    scripts = {route: [step] for route, step in answers.items()}
    with ScriptedAgent(answers=scripts, token=TOKEN, service="ray") as server:
        return verdict(connect, server, **{"extra": RAY, **parts})


@pytest.mark.parametrize("release", ["2.60.0", "2.50.1", "3.0.0.dev0"])
def test_rays_dashboard_is_named_with_its_version(release: str, connect: Connect) -> None:
    good, words = dashboard(connect, {"GET api/version": ray_dialect.version(release)})
    assert good
    assert words.startswith(f"Connected to Ray's own dashboard ({release}) at http://")


@pytest.mark.parametrize("release", ["2.49.2", "1.13.0"])
def test_a_ray_that_is_too_old_is_named_with_the_oldest_that_will_do(release: str, connect: Connect) -> None:
    good, words = dashboard(connect, {"GET api/version": ray_dialect.version(release)})
    assert (good, words) == (False, f"Ray {release} is too old: 2.50 or newer is required.")


def test_a_ray_whose_control_service_is_down_is_reported(connect: Connect) -> None:
    good, words = dashboard(connect, {"GET api/gcs_healthz": Answer(503, "GCS is down")})
    assert not good
    assert "but it reports that Ray is down" in words


@pytest.mark.parametrize("password", [None, "another-token"])
def test_a_token_that_ray_rejects_is_reported(password: str | None, connect: Connect) -> None:
    good, words = dashboard(connect, {}, password=password)
    assert not good
    if password is None:
        assert words == "The Ray dashboard requires a token (401), but the connection has no Token (password)."
    else:
        assert words == "The Ray dashboard rejected the token (403): check the Token (password)."


def test_a_token_that_may_not_read_jobs_is_reported(connect: Connect) -> None:
    good, words = dashboard(connect, {JOBS: ray_dialect.error(403)})
    assert not good
    assert "The Ray dashboard rejected the token (403)" in words


def test_a_jobs_api_that_fails_is_reported_in_one_line(connect: Connect) -> None:
    good, words = dashboard(
        connect, {JOBS: ray_dialect.error(500, ray_dialect.TRACEBACK.format(error=f"KeyError: {TOKEN}"))}
    )
    assert (good, words) == (False, "GET /api/jobs/rayagent-connection-test answered 500: KeyError: ***")


@pytest.mark.parametrize("token", [TOKEN, None])
def test_an_agent_behind_a_connection_to_ray_is_told(token: str | None, connect: Connect) -> None:
    with ScriptedAgent(
        token=token and f"Bearer {token}", answers={"GET health/": [Answer(200, {"version": "1.2"})]}
    ) as agent:
        good, words = verdict(connect, agent, extra=RAY)
        assert (good, words) == (False, f"At {agent.url} is agent 1.2: set Service (service) to agent.")


@pytest.mark.parametrize("token", [TOKEN, None])
def test_rays_dashboard_behind_a_connection_to_an_agent_is_told(token: str | None, connect: Connect) -> None:
    # The token that an agent gets is none that Ray takes: Ray still says what it is, without its version.
    found = "Ray's own dashboard" if token else "Ray's own dashboard (2.60.0)"
    with ScriptedAgent(token=token, service="ray") as server:
        good, words = verdict(connect, server)
        assert (good, words) == (False, f"At {server.url} is {found}: set Service (service) to ray.")


def test_a_rejected_token_may_be_an_agents(connect: Connect) -> None:
    with ScriptedAgent(token=TOKEN) as agent:
        good, words = verdict(connect, agent, extra=RAY)
    assert not good
    assert words.startswith("The Ray dashboard rejected the token (401): check the Token (password).")
    assert words.endswith("If this is an agent, set Service (service) to agent.")


@pytest.mark.parametrize("step", [Html(200), Html(404), Answer(200, {}), Answer(200, "OK"), Answer(200, [])], ids=named)
def test_something_that_is_neither_is_told(step: Step, connect: Connect) -> None:
    with ScriptedAgent(answers={"*": [step]}) as server:
        good, words = verdict(connect, server, extra=RAY)
        assert not good
        assert words.startswith(f"The server at {server.url} is not Ray's own dashboard: check the Service URL (host)")


@pytest.mark.parametrize("service", ["Ray", "kuberay", 7, ["ray"]])
def test_an_unknown_service_is_told(service: Any, connect: Connect) -> None:
    good, words = verdict(connect, NO_AGENT, extra={"service": service})
    assert not good
    assert words.startswith("The connection's Service (service) must be agent or ray, not ")
