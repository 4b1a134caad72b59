"""Read the configuration from a connection; errors name the field."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_rayagent.connection.config import ServiceConfig, read_config
from airflow_provider_rayagent.errors.service_errors import RayAgentConfigError

TOKEN = 's3cret/token"x'


def make_config(**overrides: Any) -> ServiceConfig:
    return read_config(**{"host": "agent.example.com", "token": TOKEN, **overrides})


@pytest.mark.parametrize(
    ("parts", "base_url"),
    [
        ({"host": "agent"}, "http://agent/"),
        ({"host": "  agent \n"}, "http://agent/"),
        ({"host": "agent", "port": 8000}, "http://agent:8000/"),
        ({"host": "agent", "port": "8000"}, "http://agent:8000/"),
        ({"host": "agent", "schema": "https"}, "https://agent/"),
        ({"host": "agent", "schema": " HTTPS ", "port": ""}, "https://agent/"),
        ({"host": "agent:8001", "port": 8000}, "http://agent:8001/"),
        ({"host": "https://agent", "schema": "http"}, "https://agent/"),
        ({"host": "https://agent:8443/api/v2/", "port": 1}, "https://agent:8443/api/v2/"),
        ({"host": "agent/prefix", "port": 8000}, "http://agent:8000/prefix/"),
        ({"host": "http://agent//"}, "http://agent/"),
        ({"host": "HTTP://Agent"}, "http://agent/"),
        ({"host": "::1"}, "http://[::1]/"),
        ({"host": "2001:db8::7", "port": 8000, "schema": "https"}, "https://[2001:db8::7]:8000/"),
        ({"host": "[::1]:8000"}, "http://[::1]:8000/"),
        ({"host": "http://[::1]/x"}, "http://[::1]/x/"),
        ({"host": "10.0.0.1"}, "http://10.0.0.1/"),
        ({"host": "agent/team@home"}, "http://agent/team@home/"),
    ],
)
def test_host_port_and_schema_make_the_base_url(parts: dict[str, Any], base_url: str) -> None:
    config = make_config(**parts)
    assert config.base_url == base_url
    assert config.url("jobs/") == f"{base_url}jobs/"


NO_TOKENS: list[Any] = [7.5, True, ["x"], {"x": "y"}]
NO_BOOLEANS: list[Any] = ["maybe", 0, 1, [], "/etc/ca.pem"]
REFUSED: dict[str, list[dict[str, Any]]] = {
    r"no Service URL \(host\)": [{"host": host} for host in (None, "", "  ", "\n")],
    "host": [
        {"host": host}
        for host in (
            *("http://", "http:///x", "agent host", "agent\tx", "agent\nx", "http://[::1", "http://agent:abc"),
            *("agent:99999", "http://agent:-1", "http://agent?x=1", "http://agent/#x", "fe80::1%eth0", "agent\\x"),
        )
    ],
    "port": [
        *({"port": port} for port in ("abc", 0, -1, 65536, 8000.5, True, "80 80", [80])),
        {"host": "http://agent:0"},
    ],
    "scheme": [{"schema": "ftp"}, {"host": "ftp://agent"}, {"host": "file:///etc/passwd"}],
    "header": [
        {"extra": {"headers": headers}}
        for headers in ("{", "[1]", [1], 7, '"x"', {"X": 1}, {"X Y": "1"}, {"X:": "1"}, {"": "1"}, {1: "1"})
    ],
    **{name: [{"extra": {name: value}} for value in NO_TOKENS] for name in ("user_token", "tenant")},
    "verify": [{"extra": {"verify": value}} for value in NO_BOOLEANS],
    **{name: [{"extra": {name: ["/x"]}}] for name in ("ca_bundle", "client_cert")},
    "client_key": [{"extra": {"client_key": ["/x"]}}, {"extra": {"client_key": "/k.pem"}}],
}


@pytest.mark.parametrize(("field", "parts"), [(field, parts) for field in REFUSED for parts in REFUSED[field]])
def test_an_invalid_part_is_refused_with_the_name_of_its_field(field: str, parts: dict[str, Any]) -> None:
    with pytest.raises(RayAgentConfigError, match=field):
        make_config(**parts)


@pytest.mark.parametrize(
    "host",
    [
        "http://me:s3cret@agent",
        "http://s3cret@agent",
        "s3cret@agent",
        "http://me:s3cret@agent:abc",
        "//x:s3cret@[bad",
        "http://me:s3cret/#?@agent",
    ],
)
def test_a_password_in_the_host_is_rejected_and_not_shown(host: str) -> None:
    with pytest.raises(RayAgentConfigError, match="password") as caught:
        make_config(host=host)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("parts", "headers"),
    [
        (
            {"extra": {"user_token": "user-tok", "tenant": "acme", "headers": {"X-Key": "k-1"}}},
            {"Authorization": TOKEN, "SYNAPSE-User": "Token user-tok", "SYNAPSE-Tenant": "Token acme", "X-Key": "k-1"},
        ),
        ({"token": None, "extra": {"headers": '{"X-A": "1"}'}}, {"X-A": "1"}),
        # The token replaces a header, whatever its case.
        (
            {"extra": {"headers": {"authorization": "Basic old", "synapse-USER": "old"}, "user_token": "new"}},
            {"Authorization": TOKEN, "SYNAPSE-User": "Token new"},
        ),
        (
            {"token": None, "extra": {"user_token": 12345, "tenant": 7}},
            {"SYNAPSE-User": "Token 12345", "SYNAPSE-Tenant": "Token 7"},
        ),
    ],
)
def test_the_headers_contain_the_tokens(parts: dict[str, Any], headers: dict[str, str]) -> None:
    assert make_config(**parts).headers == headers


@pytest.mark.parametrize("end", ["\n", "\r\nX-Injected: 1", " ", "\x00", "\u2028", "\x7f"])
@pytest.mark.parametrize("name", ["password", "user_token", "tenant", "headers"])
def test_an_invalid_header_value_is_rejected_with_the_name_of_the_field(name: str, end: str) -> None:
    value = f"s3cret-value{end}"
    parts: dict[str, Any] = {"token": value} if name == "password" else {"extra": {name: value}}
    if name == "headers":
        parts = {"extra": {"headers": {"X-Key": value}}}
    with pytest.raises(RayAgentConfigError, match="X-Key" if name == "headers" else name) as caught:
        make_config(**parts)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
def test_timeouts_are_numbers_or_numeric_strings(name: str) -> None:
    assert getattr(make_config(extra={name: 2}), name) == 2.0
    assert getattr(make_config(extra={name: "2.5"}), name) == 2.5
    assert getattr(make_config(extra={name: ""}), name) == getattr(make_config(), name)


@pytest.mark.parametrize("value", ["abc", 0, -1, "-1", "nan", "inf", 301, True, [1], {"s": 1}, 10**400, "1" * 5_000])
@pytest.mark.parametrize("name", ["connect_timeout", "read_timeout"])
def test_an_invalid_timeout_is_rejected(name: str, value: object) -> None:
    with pytest.raises(
        RayAgentConfigError, match=rf"The connection's .* \({name}\) must be a number of seconds"
    ) as caught:
        make_config(extra={name: value})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("extra", "verify"),
    [
        ({}, True),
        ({"verify": None}, True),
        ({"verify": "True "}, True),
        ({"verify": False}, False),
        ({"verify": "false"}, False),
        ({"verify": "no"}, False),
        ({"verify": "0"}, False),
        ({"ca_bundle": "/ca.pem"}, "/ca.pem"),
        ({"verify": "yes", "ca_bundle": "/ca.pem"}, "/ca.pem"),
        ({"verify": False, "ca_bundle": "/ca.pem"}, False),
    ],
)
def test_certificates_are_verified_unless_disabled(extra: dict[str, Any], verify: bool | str) -> None:
    assert make_config(extra=extra).verify == verify


def test_a_client_certificate_may_have_its_key_in_one_file() -> None:
    assert make_config(extra={"client_cert": "/c.pem"}).client_cert == "/c.pem"
    assert make_config(extra={"client_cert": "/c.pem", "client_key": "/k.pem"}).client_cert == ("/c.pem", "/k.pem")


def test_no_secret_is_in_the_repr_and_every_form_of_one_is_redacted() -> None:
    config = make_config(extra={"user_token": "user-tok", "tenant": "acme", "headers": {"X-Key": "key-value"}})
    for secret in (TOKEN, "s3cret", "user-tok", "key-value"):
        assert secret not in repr(config)
        assert secret not in str(config)
    text = 's3cret/token"x s3cret/token\\"x s3cret%2Ftoken%22x user-tok key-value acme end'
    assert config.redact(text) == "*** *** *** *** *** acme end"


@pytest.mark.parametrize(
    ("header", "value", "printed"),
    [
        ("Authorization", "Bearer abc-123", "abc-123"),
        ("X-Auth", "Token  abc-123", "abc-123"),
        ("Authorization", "Basic dXNlcjpwYTpzcw==", "dXNlcjpwYTpzcw=="),
        ("Authorization", "Basic dXNlcjpwYTpzcw==", "pa:ss"),
        ("Authorization", "Basic \u00fcber-secret", "\u00fcber-secret"),
        ("Cookie", "id=abc-1234; lang=en; secure=true", "abc-1234"),
    ],
)
def test_parts_of_a_header_that_are_secrets_are_redacted(header: str, value: str, printed: str) -> None:
    config = make_config(token=None, extra={"headers": {header: value}})
    assert config.redact(f"{value} or {printed}") == "*** or ***"
    assert (
        config.redact("Bearer, Token, Basic, user, id, lang, en, true")
        == "Bearer, Token, Basic, user, id, lang, en, true"
    )


@pytest.mark.parametrize(("token", "printed"), [("Bearer abc-123", "abc-123"), ("Token abc", "abc"), ("x-1", "x-1")])
def test_a_token_with_its_scheme_and_a_short_one_are_redacted(token: str, printed: str) -> None:
    assert make_config(token=token).redact(f"{token}|{printed}") == "***|***"
    assert make_config(token=None, extra={"user_token": token}).redact(f"{token}|{printed}") == "***|***"


def test_a_longer_secret_is_redacted_before_one_that_it_contains() -> None:
    assert make_config(token="abc", extra={"user_token": "abc-def"}).redact("abc-def abc") == "*** ***"
    assert make_config(token=None, extra={"user_token": 12345}).redact("user 12345") == "user ***"


@pytest.mark.parametrize(
    ("parts", "exposed"),
    [
        ({"host": "agent"}, True),
        ({"host": "http://10.0.0.1:8265", "extra": {"service": "ray"}}, True),
        ({"host": "agent", "token": None, "extra": {"token_file": "/token"}}, True),
        ({"host": "agent", "token": None, "extra": {"tenant": "acme"}}, False),
        ({"host": "https://agent"}, False),
        ({"host": "agent", "schema": "https"}, False),
        ({"host": "localhost:8000"}, False),
        ({"host": "127.0.0.2:8000"}, False),
        ({"host": "http://[::1]:8000"}, False),
    ],
)
def test_a_token_is_exposed_by_http_to_another_machine(parts: dict[str, Any], exposed: bool) -> None:
    assert make_config(**parts).exposes_token == exposed
