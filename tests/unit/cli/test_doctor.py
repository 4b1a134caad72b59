"""``doctor``: a good set-up, and what is said of each broken one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_rayagent.cli.doctor import CHECKS
from airflow_provider_rayagent.connection.config import UNENCRYPTED
from tests.scripted import Answer, Hold, Html, Job, Play, Refuse, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.unit.certificates import Authority, TlsFront
from tests.unit.cli.findings import HEALTHY, TEXT, after, agent_with, examine, skipped, wrong
from tests.unit.proxies import Proxy
from tests.unit.support import TOKEN, remote_url

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scripted import Step
    from tests.unit.cli.conftest import Airflow, Examined
    from tests.unit.support import Connect


def test_a_good_agent(connect: Connect, airflow: Airflow) -> None:
    extra = {"tenant": "acme", "metrics_url": "https://grafana.example.com/?from={start}"}
    with agent_with() as agent:
        connect(agent, extra=extra)
        found = examine(airflow)
        results = {check: result for check, (result, _) in found.items()}
        assert results == dict.fromkeys(CHECKS, "ok") | {"proxy": "-", "TLS": "-"}
        assert [line.split(None, 2)[1] for line in airflow("doctor").lines][:3] == ["proxy", "address", "TLS"]
        assert found["health"][1] == f"Connected to agent 2026.2 at {agent.url}."
        assert found["links"][1] == "Jobs have links: Metrics page (metrics_url)."
        assert found["versions"][1].startswith("agent 2026.2, Ray 2.60.0, provider ")
        assert "Airflow 3" in found["versions"][1]
        assert found["token"][1] == "The service accepts the token and the Tenant (tenant)."


def test_a_good_dashboard_has_no_streams(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(Job(TEXT), token=TOKEN, service="ray") as server:
        connect(server, extra={"service": "ray"})
        found = examine(airflow)
    assert wrong(found) == {}
    assert {check for check, (result, _) in found.items() if result == "-"} == {
        "proxy",
        "TLS",
        "WebSocket",
        "SSE",
    }
    assert found["SSE"][1] == "Logs of this service are read by polling, not as a stream."
    assert found["health"][1].startswith("Connected to Ray's own dashboard (2.60.0) at ")


def test_without_jobs_no_log_is_checked(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(Job(TEXT, type="DRIVER"), answers={"GET health/": [HEALTHY]}) as agent:
        connect(agent, password=None)
        found = examine(airflow)
    assert wrong(found) == {}
    assert {found[check][0] for check in ("job log", "WebSocket", "SSE", "links")} == {"-"}
    assert found["token"][1] == "The connection has no token, and the service requires none."


def test_the_newest_job_that_runs_is_chosen(connect: Connect, airflow: Airflow) -> None:
    statuses = ("RUNNING", "RUNNING", "FAILED", "SUCCEEDED")
    jobs = [Job(TEXT, status, f"j{start}", started=start) for start, status in enumerate(statuses, start=1)]
    with agent_with(*jobs) as agent:
        connect(agent)
        assert examine(airflow)["job log"][1] == "The log of job j2 can be read."
        assert examine(airflow, "--job-id", "j4")["SSE"][1] == "The log of job j4 arrives as a stream."


def test_an_empty_log_is_no_error(connect: Connect, airflow: Airflow) -> None:
    with agent_with(Job(status="RUNNING")) as agent:
        connect(agent)
        assert wrong(examine(airflow)) == {}


# Broken set-ups


def test_a_link_that_will_be_missing_is_told(connect: Connect, airflow: Airflow) -> None:
    with agent_with() as agent:
        connect(
            agent, extra={"job_url": "https://ray.example.com/{job_id}", "logs_url": "https://logs.example.com/{job}"}
        )
        problems = wrong(examine(airflow))
    assert problems.keys() == {"links"}
    assert problems["links"].startswith("The connection's Logs page (logs_url) has {job} in it, ")


def test_a_token_that_others_can_read_is_a_warning(
    connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent_with() as agent:
        connect(remote_url(agent, monkeypatch))
        found = examine(airflow)
    assert wrong(found) == {}
    assert found["TLS"] == ("warning", UNENCRYPTED)


def test_a_wrong_name(connect: Connect, airflow: Airflow) -> None:
    connect("http://agent.invalid")
    found = examine(airflow)
    assert wrong(found) == {
        "address": "Cannot resolve the host name in http://agent.invalid/: check the Service URL (host)."
    }
    assert skipped(found) == after("address")
    assert found["TLS"][1] == "Not checked, since address is wrong."


def test_a_closed_port(connect: Connect, airflow: Airflow) -> None:
    connect(NO_AGENT)
    found = examine(airflow)
    assert list(wrong(found)) == ["address"]
    assert found["address"][1].startswith(f"Nothing listens at {NO_AGENT}/: check Service URL (host) and port")
    assert skipped(found) == after("address")


def test_tls_spoken_to_a_plain_port(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(connects=[Answer(400, "plain HTTP")]) as agent:
        connect(agent.url.replace("http:", "https:"))
        found = examine(airflow)
    assert list(wrong(found)) == ["TLS"]
    assert found["TLS"][1].endswith(
        "Does the server speak plain http? Then the Service URL (host) begins with http://."
    )
    assert skipped(found) == after("TLS")


def test_certificates(connect: Connect, airflow: Airflow, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with agent_with() as agent, TlsFront(authority.issue("agent"), agent.port) as front:
        connect(front.url)
        untrusted = examine(airflow)
        connect(front.url, extra={"ca_bundle": str(authority.bundle)})
        trusted = examine(airflow)
        connect(front.url, extra={"verify": False})
        unverified = examine(airflow)
        connect(front.url, extra={"ca_bundle": str(tmp_path / "none.pem")})
        missing = examine(airflow)
    assert list(wrong(untrusted)) == ["TLS"]
    assert "Enter the file of the CA that signed the server's certificate as CA bundle (ca_bundle)." in str(untrusted)
    assert wrong(trusted) == {}
    assert trusted["TLS"] == ("ok", "The server's certificate is trusted.")
    assert wrong(unverified) == {
        "TLS": "The server's certificate is not verified: turn Verify TLS (verify) on again.",
    }
    assert skipped(unverified) == set()
    assert list(wrong(missing)) == ["TLS"]
    assert "cannot be read" in missing["TLS"][1]


def test_ca_variable_that_names_no_file(connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    connect("https://127.0.0.1:1")
    assert wrong(examine(airflow)) == {
        "TLS": "The environment's SSL_CERT_FILE names a file that does not exist: /nowhere/ca.pem"
    }


def test_a_proxy_that_works(connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent_with() as agent, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:pass-word@127.0.0.1:{proxy.port}")
        connect(agent)
        found = examine(airflow)
    assert wrong(found) == {}
    assert found["proxy"] == ("ok", f"Requests go through the proxy http://127.0.0.1:{proxy.port}.")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_refuses(scheme: str, connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    with agent_with() as agent, Proxy("user:right") as proxy:
        monkeypatch.setenv(f"{scheme.upper()}_PROXY", f"http://user:wrong-word@127.0.0.1:{proxy.port}")
        connect(agent.url.replace("http", scheme))
        found = examine(airflow)
    assert list(wrong(found)) == ["proxy"]
    assert "407" in found["proxy"][1]
    assert "Correct HTTP_PROXY, HTTPS_PROXY" in found["proxy"][1]
    assert "wrong-word" not in found["proxy"][1]
    assert skipped(found) == after("proxy")


def test_a_refusal_over_http_may_be_the_proxys(
    connect: Connect, airflow: Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    with agent_with(health=Refuse(403)) as agent, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        connect(agent)
        found = examine(airflow)
    assert list(wrong(found)) == ["token"]
    assert f"Or the proxy http://127.0.0.1:{proxy.port} refuses the request: then correct HTTP_PROXY, " in str(found)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "(through the proxy http://127.0.0.1:1): "),
        ("http://proxy.invalid:3128", "(through the proxy http://proxy.invalid:3128): "),
        ("socks5://127.0.0.1:1", "names a socks5 proxy, which is not supported"),
    ],
)
def test_a_proxy_that_is_not_there(url: str, words: str, examined: Examined, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", url)
    found = examined(agent_with())
    assert list(wrong(found)) == ["proxy"]
    assert words in found["proxy"][1]


def test_a_wrong_token(examined: Examined) -> None:
    found = examined(ScriptedAgent(token="another"))
    assert wrong(found) == {"token": "The agent rejected the token (401): check the Token (password)."}
    assert skipped(found) == after("token")


def test_a_missing_token_file(connect: Connect, airflow: Airflow, tmp_path: Path) -> None:
    with agent_with() as agent:
        connect(agent, password=None, extra={"token_file": str(tmp_path / "none")})
        found = examine(airflow)
    assert list(wrong(found)) == ["token"]
    assert "does not exist" in found["token"][1]


def test_a_tenant_that_may_not_list_jobs(connect: Connect, airflow: Airflow) -> None:
    with agent_with(jobs=Refuse(403)) as agent:
        connect(agent, extra={"tenant": "acme"})
        found = examine(airflow)
    refusal = "The agent rejected the token (403): check the Token (password) and the Tenant (tenant)."
    assert wrong(found) == {"token": refusal}


@pytest.mark.parametrize("step", [Html(200), Html(404), Answer(200, "OK")], ids=["page", "404", "text"])
def test_something_that_is_no_agent(step: Step, examined: Examined) -> None:
    found = examined(ScriptedAgent(answers={"*": [step]}))
    assert list(wrong(found)) == ["service"]
    assert "is not a Ray agent: check the Service URL (host)" in found["service"][1]
    assert skipped(found) == after("service")


def test_the_other_service(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(service="ray") as server:
        connect(server)
        found = examine(airflow)
    assert list(wrong(found)) == ["service"]
    assert found["service"][1].endswith("set Service (service) to ray.")


def test_a_service_that_does_not_answer(connect: Connect, airflow: Airflow) -> None:
    with ScriptedAgent(answers={"*": [Play(Hold())]}) as agent:
        connect(agent, extra={"read_timeout": 0.1})
        found = examine(airflow)
    assert list(wrong(found)) == ["service"]
    assert "No response from" in found["service"][1]


def test_an_agent_whose_ray_is_down(examined: Examined) -> None:
    down = Answer(200, {"status": "ok", "ray": {"status": "down"}})
    found = examined(agent_with(health=down, jobs=Refuse(503, "Ray is not available")))
    assert list(wrong(found)) == ["health", "jobs"]
    assert "reports that Ray is down" in found["health"][1]
    assert skipped(found) == after("jobs")


def test_an_invalid_connection_is_reported_like_by_other_commands(connect: Connect, airflow: Airflow) -> None:
    connect("", extra={})
    done = airflow("doctor")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("RA-208: The connection has no Service URL (host)")
