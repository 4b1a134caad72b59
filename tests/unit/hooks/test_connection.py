"""The hook's connection, as an operator writes it; and its secrets, which nothing shows."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentConfigError, RayAgentConnectionError, RayAgentError
from airflow_provider_rayagent.hooks.connection import config_from_connection
from airflow_provider_rayagent.hooks.rayagent import RayAgentAsyncHook, RayAgentHook
from tests.scripted import Job, Refuse, ScriptedAgent
from tests.stack.processes import NO_AGENT
from tests.unit.support import TOKEN, task_log

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.support import Connect

CONN = "AIRFLOW_CONN_RAYAGENT_DEFAULT"


def make_connection(**overrides: Any) -> Any:
    """Return an Airflow connection's parts."""
    return SimpleNamespace(
        **{"host": "agent", "port": None, "schema": None, "password": TOKEN, "extra": None, **overrides}
    )


def test_a_missing_connection_is_an_error_with_a_code_that_names_it() -> None:
    words = "There is no Airflow connection 'nowhere': create it, with the type Ray agent"
    with pytest.raises(RayAgentConfigError, match=words):
        RayAgentHook("nowhere").list_jobs()

    async def ask() -> None:
        async with RayAgentAsyncHook("nowhere") as hook:
            await hook.list_jobs()

    with pytest.raises(RayAgentConfigError, match=words):
        asyncio.run(ask())


@pytest.mark.parametrize(
    ("uri", "base_url"),
    [
        ("rayagent://:tok-1234@host:8000/https?tenant=acme&read_timeout=7.5", "https://host:8000/"),
        ("rayagent://:tok-1234@host?tenant=acme&read_timeout=7.5", "http://host/"),
        ("rayagent://:tok-1234@https%3A%2F%2Fhost%2Fapi:8443?tenant=acme&read_timeout=7.5", "https://host:8443/api/"),
        ("rayagent://https://:tok-1234@host:8443/?tenant=acme&read_timeout=7.5", "https://host:8443/"),
        ("rayagent://:tok-1234@[::1]:8000/?tenant=acme&read_timeout=7.5", "http://[::1]:8000/"),
        (
            "rayagent://:tok-1234@host/?__extra__=%7B%22tenant%22%3A%22acme%22%2C%22read_timeout%22%3A7.5%7D",
            "http://host/",
        ),
    ],
)
def test_a_connection_may_be_a_uri(uri: str, base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONN, uri)
    config = RayAgentHook().config
    assert config.base_url == base_url
    assert config.read_timeout == 7.5
    assert config.headers == {"Authorization": "tok-1234", "SYNAPSE-Tenant": "Token acme"}


@pytest.mark.parametrize("extra", [{"tenant": "acme", "verify": False}, '{"tenant": "acme", "verify": "false"}'])
def test_a_connection_may_be_json(extra: Any, connect: Connect) -> None:
    config = RayAgentHook(connect("https://host/api", "other", port=8443, extra=extra)).config
    assert config.base_url == "https://host:8443/api/"
    assert config.verify is False
    assert config.headers == {"Authorization": TOKEN, "SYNAPSE-Tenant": "Token acme"}


def test_a_token_with_reserved_characters_arrives_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONN, "rayagent://:a%2Fb%3Ac%40d%25e@host")
    assert RayAgentHook().config.headers["Authorization"] == "a/b:c@d%e"


@pytest.mark.parametrize("extra", ["{", "not json", "[1, 2]", '"text"', "7", "null", "{'verify': false}"])
def test_an_extra_that_is_no_json_object_is_refused(extra: str, connect: Connect) -> None:
    with pytest.raises(RayAgentConfigError, match="extra"):
        config_from_connection(make_connection(extra=extra))
    connect("http://host", extra=extra)
    with pytest.raises(RayAgentConfigError, match="extra"):
        RayAgentHook().get_conn()


@pytest.mark.parametrize("extra", [None, "", "{}"])
def test_an_extra_may_be_absent(extra: str | None) -> None:
    assert config_from_connection(make_connection(extra=extra)).verify is True


@pytest.mark.parametrize(
    ("overrides", "field"),
    [
        ({"host": None}, "host"),
        ({"host": " "}, "host"),
        ({"port": "abc"}, "port"),
        ({"schema": "gopher"}, "scheme"),
        ({"password": f"{TOKEN}\nX: y"}, "password"),
        ({"extra": json.dumps({"user_token": f"{TOKEN}\r\n"})}, "user_token"),
        ({"extra": json.dumps({"read_timeout": "abc"})}, "read_timeout"),
        ({"extra": json.dumps({"connect_timeout": 0})}, "connect_timeout"),
        ({"extra": json.dumps({"verify": "maybe"})}, "verify"),
        ({"extra": json.dumps({"headers": f"{TOKEN}"})}, "headers"),
    ],
)
def test_a_malformed_part_is_named_and_no_secret_is_told(overrides: dict[str, Any], field: str) -> None:
    with pytest.raises(RayAgentConfigError, match=field) as caught:
        config_from_connection(make_connection(**overrides))
    assert TOKEN not in str(caught.value)


def test_a_connection_that_cannot_be_used_is_an_error_of_every_call_and_nothing_is_sent(connect: Connect) -> None:
    connect("http://host", extra={"read_timeout": -1})
    hook = RayAgentHook()
    for call in (hook.list_jobs, hook.health_check, lambda: hook.get_job("j1"), lambda: hook.tail_job_logs("j1")):
        with pytest.raises(RayAgentConfigError, match="read_timeout"):
            call()
    assert hook.test_connection()[0] is False
    assert "read_timeout" in hook.test_connection()[1]


@pytest.mark.parametrize("field", ["ca_bundle", "client_cert"])
def test_a_certificate_file_that_is_not_there_is_named(field: str, connect: Connect, tmp_path: Path) -> None:
    connect("https://127.0.0.1:1", extra={field: str(tmp_path / "none.pem")})
    with RayAgentHook() as hook, pytest.raises(RayAgentConfigError, match=rf"cannot be read: .*{tmp_path}/none\.pem"):
        hook.health_check()


@pytest.mark.parametrize(
    ("field", "option", "permitted", "refused"),
    [
        (
            "token_file",
            "token_folders",
            [
                "/var/run/secrets/ray/t",
                "/run/secrets/ray",
                "/run/secrets/ray/t",
                "/vault/secrets/t",
                "/mnt/secrets-store/t",
            ],
            ["/var/run/secrets/t", "/run/secrets/t", "/run/secrets/ray-not/t", "/vault/t", "/mnt/t", "/etc/ssl/t"],
        ),
        *(
            (
                field,
                "tls_folders",
                [
                    "/etc/ssl/t",
                    "/etc/pki/t",
                    "/usr/local/share/ca-certificates/t",
                    "/usr/share/ca-certificates/t",
                    "/var/run/secrets/ray/t",
                    "/run/secrets/ray/t",
                    "/vault/secrets/t",
                    "/mnt/secrets-store/t",
                ],
                ["/etc/t", "/usr/share/t", "/var/run/secrets/t", "/home/t", "t"],
            )
            for field in ("ca_bundle", "client_cert")
        ),
    ],
)
def test_by_default_files_are_opened_in_few_folders(
    field: str,
    option: str,
    permitted: list[str],
    refused: list[str],
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(path: str) -> str:
        connect("https://127.0.0.1:1", password=None, extra={field: path})
        with RayAgentHook() as hook, pytest.raises(RayAgentError) as caught:
            hook.health_check()
        return str(caught.value)

    monkeypatch.delenv(f"AIRFLOW__RAYAGENT__{option.upper()}")
    no_file = "does not exist|cannot be read"
    assert [path for path in permitted if not re.search(no_file, answer(path))] == []
    where = f"may not be opened here: .* option \\[rayagent\\] {option}, it must be in one of /"
    assert [path for path in refused if not re.search(where, answer(path))] == []
    monkeypatch.setenv(f"AIRFLOW__RAYAGENT__{option.upper()}", " ,")
    assert f"[rayagent] {option}, it must be in a folder named there, and none is" in answer(permitted[0])


def test_no_secret_reaches_a_log_an_error_or_a_repr(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = (TOKEN, "user-tok-77", "header-val-77")
    answers = {"*": [Refuse(500, f"you sent {' '.join(secrets)}")], "GET tasks/": [Refuse(401, TOKEN)]}
    with ScriptedAgent(Job("x\n"), answers=answers) as agent, task_log() as log:
        extra = {"user_token": secrets[1], "headers": {"X-Key": secrets[2]}, "verify": False}
        connect(agent, extra=extra)
        shown = []
        with RayAgentHook() as hook:
            for call in (hook.list_jobs, hook.list_tasks, lambda: hook.get_job_logs("j1")):
                with pytest.raises(RayAgentError) as caught:
                    call()
                shown += [str(caught.value), repr(caught.value), caught.value.detail]
            shown += [repr(hook), repr(hook.config), str(hook.test_connection())]
        connect(NO_AGENT, extra=extra)
        with RayAgentHook() as hook, pytest.raises(RayAgentConnectionError) as refused:
            hook.list_jobs()
        shown += [str(refused.value), *log.messages, caplog.text]
    for secret in secrets:
        assert not [text for text in shown if secret in text]
    assert any("***" in text for text in shown)
    assert any("verification is off" in message for message in log.messages)
