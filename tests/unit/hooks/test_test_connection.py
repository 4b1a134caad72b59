"""What the button "Test" and ``airflow connections test`` say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import UNENCRYPTED
from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from tests.scripted import Answer, Html, Play, Redirect, Refuse, Reset, Silence, Step, ray_dialect
from tests.stack.processes import NO_AGENT
from tests.unit.certificates import Authority, TlsFront
from tests.unit.proxies import Proxy
from tests.unit.support import TOKEN, named, remote_url

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.support import Connect, Serve, TaskLog

HEALTH = "GET health/"
JOBS = "GET jobs/rayagent-connection-test/"
RAY = {"service": "ray"}
GPU = {"message": "Ray is not available: connection refused", "error_type": "ray_unavailable"}
REJECTED = "The Ray dashboard rejected the token (403): check the Token (password)."
TRACEBACK = ray_dialect.TRACEBACK.format(error=f"KeyError: {TOKEN}")


def verdict() -> tuple[bool, str]:
    with RayAgentHook() as hook:
        good, words = hook.test_connection()
    assert TOKEN not in words
    return good, words


def check(answers: dict[str, Step], good: bool, words: str, serve: Serve, **parts: Any) -> None:
    """Compare the verdict about a service with words in which ``*`` stands for any others."""
    server = serve(answers={route: [step] for route, step in answers.items()}, **parts)
    found, said = verdict()
    pattern = re.escape(words.replace("{url}", server.url)).replace(r"\*", ".*")
    assert found is good
    assert re.fullmatch(pattern, said), said


@pytest.mark.parametrize(
    ("parts", "good", "words"),
    [
        ({}, True, "Connected to an agent at {url}."),
        ({"token": "another"}, False, "The agent rejected the token (401): *"),
        (
            {"password": None},
            False,
            "The agent requires a token (401), but the connection has no Token (password).",
        ),
        (
            {"extra": RAY},
            False,
            "*rejected the token (401): check the Token (password). *set Service (service) to agent.",
        ),
        # What matters less is told last.
        (
            {"extra": {"metrics_url": "grafana.example.com", "logs_url": "https://logs.example.com/{job}"}},
            False,
            "Connected to an agent at {url}. *Metrics page (metrics_url)*Logs page (logs_url)*",
        ),
        (
            {"extra": {"job_url": "https://ray.example.com/{job}"}},
            False,
            "Connected to an agent at {url}. *Job page (job_url)*",
        ),
        ({"service": "ray"}, True, "Connected to Ray's own dashboard (2.60.0) at {url}*"),
        (
            {"service": "ray", "password": None},
            False,
            "The Ray dashboard requires a token (401), but the connection has no Token (password).",
        ),
        ({"service": "ray", "password": "another-token"}, False, REJECTED),
        # The token that an agent gets is none that Ray takes: Ray still says what it is, without its version.
        (
            {"service": "ray", "extra": {"service": "agent"}},
            False,
            "At {url} is Ray's own dashboard: set Service (service) to ray.",
        ),
        (
            {"service": "ray", "extra": {"service": "agent"}, "token": None},
            False,
            "At {url} is Ray's own dashboard (2.60.0): set Service (service) to ray.",
        ),
    ],
    ids=str,
)
def test_a_service_and_its_token_are_told(parts: dict[str, Any], good: bool, words: str, serve: Serve) -> None:
    check({}, good, words, serve, **{"token": TOKEN, **parts})


@pytest.mark.parametrize(
    ("body", "ray"),
    [
        ({"version": "2026.2.17"}, ""),
        ({"agent_version": "2026.2.17", "status": "ok"}, ""),
        ({"version": "2026.2.17", "ray": {"status": "ok", "version": "2.60.0"}}, " with Ray 2.60.0"),
        ({"version": "2026.2.17", "ray_status": True}, ""),
    ],
)
def test_the_versions_are_shown_if_there_are_any(body: dict[str, Any], ray: str, serve: Serve) -> None:
    check({HEALTH: Answer(200, body)}, True, f"Connected to agent 2026.2.17{ray} at *", serve)


@pytest.mark.parametrize(
    ("step", "words", "extra"),
    [
        (Refuse(401, f"bad token {TOKEN}"), "rejected the token (401): check the Token (password)", {}),
        (Refuse(403, f"bad token {TOKEN}"), "rejected the token (403): check the Token (password)", {}),
        (
            Refuse(401),
            "check the Token (password) and the User token (user_token) and the Tenant (tenant).",
            {"user_token": "user-tok", "tenant": "acme"},
        ),
        (Answer(200, {"status": "Unhealthy"}), "it reports that the agent is Unhealthy", {}),
        (Answer(503, GPU), "503: Ray is not available", {}),
        (Answer(503, {"detail": GPU["message"]}), "503: Ray is not available", {}),
        (Html(502), "502", {}),
        (Redirect("https://login.example/"), "https://login.example/", {}),
        (Play(Reset()), "failed", {}),
        (Play(Silence()), "No response", {"read_timeout": 0.1}),
        *(
            (step, "not a Ray agent: check the Service URL (host)", {})
            for step in (
                *(Html(200), Html(404), Refuse(404), Answer(200, []), Answer(200, "OK")),
                *(Answer(200, None), Answer(200, 7), Answer(204, None)),
            )
        ),
        *(
            (Answer(200, {"version": "1.2", "status": "ok", **ray}), "to agent 1.2 at *but it reports that Ray is", {})
            for ray in (
                {"ray": {"status": "down"}},
                {"ray_status": "disconnected"},
                {"ray": "unavailable"},
                {"ray": False},
            )
        ),
    ],
    ids=named,
)
def test_what_keeps_an_agent_from_being_used_is_told_and_no_bad_link(
    step: Step, words: str, extra: dict[str, Any], serve: Serve
) -> None:
    check({HEALTH: step}, False, f"*{words}*", serve, extra={"job_url": "https://ray.example.com/{job}", **extra})
    assert "job_url" not in verdict()[1]


@pytest.mark.parametrize(
    ("answers", "good", "words"),
    [
        *(
            ({"GET api/version": ray_dialect.version(release)}, True, f"Connected to Ray's own dashboard ({release}) *")
            for release in ("2.50.1", "3.0.0.dev0")
        ),
        *(
            (
                {"GET api/version": ray_dialect.version(release)},
                False,
                f"Ray {release} is too old: 2.50 or newer is required.",
            )
            for release in ("2.49.2", "1.13.0")
        ),
        ({"GET api/gcs_healthz": Answer(503, "GCS is down")}, False, "*but it reports that Ray is down*"),
        ({JOBS: ray_dialect.error(403)}, False, "The Ray dashboard rejected the token (403)*"),
        (
            {JOBS: ray_dialect.error(500, TRACEBACK)},
            False,
            "GET /api/jobs/rayagent-connection-test answered 500: KeyError: ***",
        ),
    ],
    ids=str,
)
def test_what_rays_dashboard_answers_is_told(answers: dict[str, Step], good: bool, words: str, serve: Serve) -> None:
    check(answers, good, words, serve, service="ray", token=TOKEN)


@pytest.mark.parametrize("token", [f"Bearer {TOKEN}", None])
def test_an_agent_behind_a_connection_to_ray_is_told(token: str | None, serve: Serve) -> None:
    words = "At {url} is agent 1.2: set Service (service) to agent."
    check({HEALTH: Answer(200, {"version": "1.2"})}, False, words, serve, token=token, extra=RAY)


@pytest.mark.parametrize("step", [Html(200), Html(404), Answer(200, {}), Answer(200, "OK"), Answer(200, [])], ids=named)
def test_something_that_is_neither_is_told(step: Step, serve: Serve) -> None:
    words = "The server at {url} is not Ray's own dashboard: check the Service URL (host)*"
    check({"*": step}, False, words, serve, extra=RAY)


@pytest.mark.parametrize(
    ("host", "extra", "words"),
    [
        ("http://agent.invalid", {}, ["host name", "Cannot resolve", "check the Service URL (host)"]),
        (NO_AGENT, {}, ["Nothing listens", "check Service URL (host) and port"]),
        *(
            (NO_AGENT, {"service": service}, ["The connection's Service (service) must be agent or ray, not "])
            for service in ("Ray", "kuberay", 7, ["ray"])
        ),
    ],
    ids=str,
)
def test_what_is_not_there_is_told(host: str, extra: dict[str, Any], words: list[str], connect: Connect) -> None:
    connect(host, extra=extra)
    good, said = verdict()
    assert not good
    assert [word for word in words if word not in said] == []


def test_tls_spoken_to_a_plain_port_is_told(serve: Serve, connect: Connect) -> None:
    agent = serve(connects=[Answer(400, "plain HTTP")])
    connect(agent.url.replace("http:", "https:"))
    good, words = verdict()
    assert not good
    assert "TLS" in words
    assert "begins with http://" in words


def test_a_certificate_of_an_unknown_authority_is_told(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with TlsFront(authority.issue("server"), serve(token=TOKEN).port) as front:
        connect(front.url)
        good, words = verdict()
        assert not good
        assert "TLS handshake with" in words
        assert "as CA bundle (ca_bundle)" in words
        connect(front.url, extra={"ca_bundle": str(authority.bundle)})
        assert verdict() == (True, f"Connected to an agent at {front.url}.")
        connect(front.url, extra={"verify": False})
        good, words = verdict()
        assert good
        assert words.endswith(" Its certificate is not verified: turn Verify TLS (verify) on again.")


@pytest.mark.parametrize(
    ("scheme", "told"),
    [
        ("http", "* answered 407*Correct user and password of the proxy in HTTP_PROXY, HTTPS_PROXY or ALL_PROXY."),
        ("https", "*(through the proxy http://*) failed: Tunnel connection failed: 407"),
    ],
)
def test_a_proxy_that_requires_another_password_is_told(
    scheme: str, told: str, serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve(token=TOKEN)
    with Proxy("user:right") as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://user:wrong-word@127.0.0.1:{proxy.port}")
        connect(agent.url.replace("http", scheme))
        good, words = verdict()
    assert not good
    assert re.fullmatch(re.escape(told).replace(r"\*", ".*"), words), words
    assert "wrong-word" not in words


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "(through the proxy http://127.0.0.1:1): "),
        ("http://proxy.invalid:3128", "(through the proxy http://proxy.invalid:3128): "),
        ("socks5://127.0.0.1:1", "names a socks5 proxy, which is not supported"),
    ],
)
def test_a_proxy_that_is_not_there_is_told(url: str, words: str, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    serve(token=TOKEN)
    good, said = verdict()
    assert not good
    assert words in said


def test_files_that_are_not_there_are_told(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect("https://127.0.0.1:1", extra={"ca_bundle": str(tmp_path / "none.pem")})
    assert "cannot be read" in verdict()[1]
    connect("https://127.0.0.1:1")
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    words = "The environment's SSL_CERT_FILE names a file that does not exist: /nowhere/ca.pem"
    assert verdict() == (False, words)


def test_a_token_that_others_can_read_is_told_and_a_task_warns_of_it_once(
    serve: Serve, connect: Connect, log: TaskLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = serve(token=TOKEN)
    for url in (agent.url, remote_url(agent, monkeypatch)):
        connect(url)
        hook = RayAgentHook()
        for _ in range(2):
            with hook:
                hook.list_jobs()
    assert log.messages == [f"RA-208: The URL {url} is not https. {UNENCRYPTED}"]
    assert verdict() == (True, f"Connected to an agent at {url}. {UNENCRYPTED}")


def test_a_token_file_is_tested(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "token"
    serve(token=TOKEN, password=None, extra={"token_file": str(path)})
    good, words = verdict()
    assert not good
    assert f"Token file (token_file) does not exist: {path}. " in words
    path.write_text("wrong")
    assert verdict() == (False, "The agent rejected the token (401): check the Token file (token_file).")
    path.write_text(TOKEN)
    assert verdict()[0] is True
