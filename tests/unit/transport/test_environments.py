"""Proxy and CA variables have the same effect on both transports, for calls and all log streams."""

from __future__ import annotations

import hashlib
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.connection.config import read_config
from airflow_provider_rayagent.errors.service_errors import (
    RayAgentConfigError,
    RayAgentConnectionError,
    RayAgentError,
    RayAgentHTTPError,
    RayAgentTLSError,
    RayAgentUnreachableError,
)
from airflow_provider_rayagent.services.agent_service import AGENT
from airflow_provider_rayagent.tail.end import End
from tests.scripted import Complete, Follow, Grow, Hold, Job, Play, Redirect, ScriptedAgent, SetStatus, Sleep
from tests.unit.certificates import Authority, TlsFront
from tests.unit.proxies import Proxy
from tests.unit.support import TOKEN
from tests.unit.transports import SOURCES, USES, Transport

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_provider_rayagent.tail.commands import StreamSource

SECRET = "pr0xy-s3cret"


@dataclass(frozen=True)
class Row:
    """An environment.

    :param variables: with placeholders: ``{proxy}`` (host and port), ``{ca}`` …
    :param tls: whether the agent is at an https URL.
    :param extra: of the connection.
    :param through: whether requests go through the proxy.
    :param error: what is raised, and its words; nothing: all is well.
    :param user: user and password that the proxy demands.
    """

    variables: dict[str, str]
    tls: bool = False
    extra: dict[str, Any] = field(default_factory=dict)
    through: bool = False
    error: tuple[type[RayAgentError], str] | None = None
    user: str | None = None


NO_PROXY_IS = (RayAgentConfigError, r"^The environment's HTTP_PROXY is not the URL of a proxy")
UNKNOWN_CA = (RayAgentTLSError, r"^TLS handshake with https://.* Enter the file of the CA")

ROWS = {
    "nothing": Row({}),
    "a proxy": Row({"HTTP_PROXY": "http://{proxy}"}, through=True),
    "a proxy in lower case": Row({"http_proxy": "http://{proxy}/"}, through=True),
    "a proxy for all": Row({"ALL_PROXY": "http://{proxy}"}, through=True),
    "a proxy without a scheme": Row({"HTTP_PROXY": "{proxy}"}, through=True),
    "a proxy that wants a password": Row(
        {"HTTP_PROXY": f"http://user:{SECRET}@{{proxy}}"}, through=True, user=f"user:{SECRET}"
    ),
    "a proxy that wants another password": Row(
        {"HTTP_PROXY": f"http://user:{SECRET}@{{proxy}}"}, error=(RayAgentHTTPError, "answered 407"), user="user:other"
    ),
    "a proxy for another scheme": Row({"HTTPS_PROXY": "http://{dead}"}),
    "a proxy for another scheme that is none": Row({"HTTPS_PROXY": "http://[bad"}),
    "no proxy for the host": Row({"HTTP_PROXY": "http://{dead}", "NO_PROXY": "example.com,127.0.0.1"}),
    "no proxy for a network": Row({"HTTP_PROXY": "http://{dead}", "NO_PROXY": "127.0.0.0/8"}),
    "no proxy for any host": Row({"HTTP_PROXY": "http://{dead}", "no_proxy": "*"}),
    "no proxy for other hosts": Row(
        {"HTTP_PROXY": "http://{proxy}", "NO_PROXY": "example.com,10.0.0.0/8"}, through=True
    ),
    "a proxy that is not there": Row(
        {"HTTP_PROXY": f"http://user:{SECRET}@{{dead}}"},
        error=(
            RayAgentUnreachableError,
            r"^Nothing listens at http://\S+ \(through the proxy http://127.0.0.1:1\)",
        ),
    ),
    **{
        f"a proxy of another kind, {scheme}": Row(
            {variable: f"{scheme}://user:{SECRET}@127.0.0.1:1"},
            error=(
                RayAgentConfigError,
                rf"^The environment's {variable} names a {scheme} proxy, which is not supported",
            ),
        )
        for scheme, variable in (
            ("socks5", "HTTP_PROXY"),
            ("socks5h", "ALL_PROXY"),
            ("socks4", "ALL_PROXY"),
            ("ftp", "HTTP_PROXY"),
        )
    },
    **{
        f"a proxy that is none, {value}": Row({"HTTP_PROXY": value}, error=NO_PROXY_IS)
        for value in (
            "http://[bad",
            "http://",
            "http://proxy:port",
            "http://a b:1",
            "127.0.0.1:99999",
            f"http://u:{SECRET}@",
        )
    },
    "https, nothing": Row({}, tls=True, error=UNKNOWN_CA),
    "https, a tunnel": Row({"HTTPS_PROXY": "http://{proxy}"}, tls=True, extra={"ca_bundle": "{ca}"}, through=True),
    "https, a tunnel by a password": Row(
        {"HTTPS_PROXY": f"http://user:{SECRET}@{{proxy}}", "REQUESTS_CA_BUNDLE": "{ca}"},
        tls=True,
        through=True,
        user=f"user:{SECRET}",
    ),
    "https, a tunnel that wants another password": Row(
        {"HTTPS_PROXY": f"http://user:{SECRET}@{{proxy}}", "REQUESTS_CA_BUNDLE": "{ca}"},
        tls=True,
        error=(
            RayAgentConnectionError,
            r"^The connection to https://\S+ \(through the proxy http://\S+\) failed: .*407",
        ),
        user="user:other",
    ),
    "https, a tunnel over TLS": Row(
        {"HTTPS_PROXY": "https://{tls_proxy}", "REQUESTS_CA_BUNDLE": "{ca}"}, tls=True, through=True
    ),
    "https, the proxy's certificate is of an unknown CA": Row(
        {"HTTPS_PROXY": "https://{tls_proxy}"}, tls=True, error=(RayAgentTLSError, "TLS handshake with")
    ),
    "https, a proxy for http": Row({"HTTP_PROXY": "http://{dead}"}, tls=True, extra={"ca_bundle": "{ca}"}),
    **{
        f"https, {name}": Row({name: "{ca_folder}" if "DIR" in name else "{ca}"}, tls=True)
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    },
    "https, a folder of CAs": Row({"REQUESTS_CA_BUNDLE": "{ca_folder}"}, tls=True),
    "https, the first of two": Row({"REQUESTS_CA_BUNDLE": "{ca}", "SSL_CERT_FILE": "{other_ca}"}, tls=True),
    "https, other CAs": Row({"REQUESTS_CA_BUNDLE": "{other_ca}"}, tls=True, error=UNKNOWN_CA),
    "https, CAs that are not there": Row(
        {"SSL_CERT_FILE": "/nowhere/ca.pem"},
        tls=True,
        error=(
            RayAgentConfigError,
            "^The environment's SSL_CERT_FILE names a file that does not exist: /nowhere/",
        ),
    ),
    "https, CAs that are none": Row(
        {"REQUESTS_CA_BUNDLE": "{no_ca}"}, tls=True, error=(RayAgentTLSError, "^TLS handshake with https://")
    ),
    "https, the connection's CAs count": Row(
        {"REQUESTS_CA_BUNDLE": "{other_ca}"}, tls=True, extra={"ca_bundle": "{ca}"}
    ),
    "https, a folder above that of the connection's CAs": Row(
        {}, tls=True, extra={"ca_bundle": "{above_ca_folder}"}, error=UNKNOWN_CA
    ),
    "https, the check is off": Row({"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}, tls=True, extra={"verify": False}),
    "CAs that are not there, without https": Row({"REQUESTS_CA_BUNDLE": "/nowhere/ca.pem"}),
    "a CA bundle of the connection's that is not there, without https": Row({}, extra={"ca_bundle": "/nowhere/ca.pem"}),
    "headers in Latin-1": Row({}, extra={"headers": {"X-Name": "Jos\u00e9 \u00a7"}}),
}


class Setup:
    """The resources of a row: an agent with and without TLS, a proxy, files with CAs."""

    def __init__(self, folder: Path, row: Row, stack: ExitStack) -> None:
        self.authority = Authority(folder)
        identity = self.authority.issue("server")
        quiet = Play(Follow(), Hold())
        self.server = stack.enter_context(ScriptedAgent(Job("a\n", "RUNNING", ws=[quiet], sse=[quiet]), token=TOKEN))
        self.proxy = stack.enter_context(Proxy(row.user))
        front = stack.enter_context(TlsFront(identity, self.server.port))
        tls_proxy = stack.enter_context(TlsFront(identity, self.proxy.port))
        ca_folder = folder / "folder"
        ca_folder.mkdir()
        (ca_folder / f"{hash_of('ca of the tests')}.0").write_bytes(self.authority.bundle.read_bytes())
        no_ca = folder / "none.pem"
        no_ca.write_text("no certificate")
        self.places = {
            "proxy": f"127.0.0.1:{self.proxy.port}",
            "tls_proxy": f"127.0.0.1:{tls_proxy.port}",
            "dead": "127.0.0.1:1",
            "ca": self.authority.bundle,
            "ca_folder": ca_folder,
            "above_ca_folder": folder,
            "other_ca": Authority(folder, "other").bundle,
            "no_ca": no_ca,
        }
        extra = {name: self.filled(value) if isinstance(value, str) else value for name, value in row.extra.items()}
        self.config = read_config(host=front.url if row.tls else self.server.url, token=TOKEN, extra=extra)

    def filled(self, value: str) -> str:
        """Return a value with its placeholders replaced."""
        return value.format(**self.places)


def hash_of(name: str) -> str:
    """Return the file name of a CA in an OpenSSL directory: X509_NAME_hash of its common name."""
    text = name.encode()
    attribute = b"\x06\x03\x55\x04\x03\x0c" + bytes((len(text),)) + text
    sequence = b"\x30" + bytes((len(attribute),)) + attribute
    digest = hashlib.sha1(b"\x31" + bytes((len(sequence),)) + sequence).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("name", ROWS)
def test_an_environment_has_the_same_effect_on_every_request(
    name: str, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = ROWS[name]
    with ExitStack() as stack:
        setup = Setup(tmp_path, row, stack)
        for variable, value in row.variables.items():
            monkeypatch.setenv(variable, setup.filled(value))
        for use in USES.values():
            before = len(setup.proxy.requests)
            if row.error is None:
                use(transport, setup.config)
                assert (len(setup.proxy.requests) > before) is row.through
                continue
            with pytest.raises(row.error[0]) as caught:
                use(transport, setup.config)
            assert type(caught.value) is row.error[0]
            assert re.search(row.error[1], caught.value.detail)
            assert SECRET not in str(caught.value)
        assert len(setup.server.requests) == (0 if row.error else len(USES))
        for request in setup.server.requests:
            assert request.headers["authorization"] == TOKEN
            for header, value in setup.config.headers.items():
                assert request.headers[header.lower()] == value


@pytest.mark.parametrize("source", SOURCES)
def test_no_line_is_lost_behind_a_proxy_that_drops_upgrade(
    transport: Transport, source: StreamSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"line {number}" for number in range(9)]
    grow = [action for line in lines for action in (Grow(f"{line}\n"), Sleep(0.05))]
    job = Job(status="RUNNING", timeline=[*grow, SetStatus("SUCCEEDED")])
    with ScriptedAgent(job) as server, Proxy(upgrades=False) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        found, following = transport.follow(read_config(host=server.url), source)
        assert (found, following.end) == (lines, End.JOB_ENDED)
        assert len(proxy.requests) == len(server.requests)


@pytest.mark.parametrize("through", [True, False], ids=["through a proxy", "directly"])
@pytest.mark.parametrize("source", SOURCES)
def test_only_the_tail_limits_the_silence_of_a_stream(
    transport: Transport, source: StreamSource, through: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(Follow(), Complete(), Hold())
    # On a slow machine, the first timeouts are too short to open the stream.
    for timeout in (0.4 * 2**number for number in range(6)):
        timeline = [Grow("a\n"), Sleep(4 * timeout), Grow("b\n"), Sleep(0.2), SetStatus("SUCCEEDED")]
        job = Job(status="RUNNING", timeline=timeline, ws=[play], sse=[play])
        with ScriptedAgent(job) as server, Proxy() as proxy:
            if through:
                monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
            config = read_config(host=server.url, extra={"connect_timeout": timeout, "read_timeout": timeout})
            lines, _ = transport.follow(config, source)
            opened = len(server.of("WS" if source == "websocket" else "GET jobs/j1/logs/stream/"))
        assert lines == ["a", "b"]
        if opened == 1:
            break
    assert opened == 1


def test_a_redirect_to_https_does_not_bypass_the_certificate_check(transport: Transport, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with ScriptedAgent() as server, TlsFront(authority.issue("server"), server.port) as front:
        server.answers["GET health/"] = [Redirect(f"{front.url}gpu_status/")]
        with pytest.raises(RayAgentTLSError):
            transport.send(read_config(host=server.url), AGENT.health_check())
        trusted = read_config(host=server.url, extra={"ca_bundle": str(authority.bundle)})
        assert transport.send(trusted, AGENT.health_check())["gpus"] == []
