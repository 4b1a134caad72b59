"""The connection in a secrets backend, as the documentation of a deployment has it."""

from __future__ import annotations

import json
from configparser import ConfigParser
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from tests.docs.conftest import PAGES, code_blocks
from tests.stack.commands import airflow, environment
from tests.stack.http_servers import serving
from tests.stack.s3 import CREDENTIALS, REGION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.deployed.support import Deployed

CONNECTION = "rayagent_default"
VAULT_TOKEN = "vault-token"


# Depends on the newest releases of two other providers.
pytestmark = pytest.mark.full


def settings_of(provider: str) -> tuple[str, dict[str, str]]:
    """Return the settings of a backend in the documentation, and its arguments in them."""
    blocks = code_blocks((PAGES / "operations.md").read_text(encoding="utf-8"), "ini")
    [settings] = [text for text in blocks if f".providers.{provider}." in text]
    parser = ConfigParser(interpolation=None)
    parser.read_string(settings)
    return settings, json.loads(parser["secrets"]["backend_kwargs"])


def assert_used(deployed: Deployed, home: Path, settings: str, **variables: str) -> None:
    """Run a command that needs the connection, with no other source of it than the backend."""
    (home / "airflow.cfg").write_text(settings, encoding="utf-8")

    done = airflow("rayagent", "nodes", "-o", "json", env={**environment(home), **variables})

    assert done.returncode == 0, done.stderr
    [node] = json.loads(done.stdout)
    assert node["state"] == "ALIVE"
    assert deployed.agent.token not in done.stdout + done.stderr


def connection_to(deployed: Deployed) -> str:
    """Return the connection in the form that the documentation has, to this agent."""
    blocks = code_blocks((PAGES / "connection.md").read_text(encoding="utf-8"), "bash")
    [fields] = [json.loads(text[text.index("{") : text.rindex("}") + 1]) for text in blocks if '"conn_type"' in text]
    # Its host has no certificate.
    del fields["extra"]
    return json.dumps({**fields, "host": deployed.agent.url, "password": deployed.agent.token})


def test_a_connection_in_aws_secrets_manager_is_used(deployed: Deployed, tmp_path: Path) -> None:
    settings, arguments = settings_of("amazon")
    secret = f"{arguments['connections_prefix']}/{CONNECTION}"
    store = deployed.deployment.store
    store.client("secretsmanager").create_secret(Name=secret, SecretString=connection_to(deployed))
    key_id, key = CREDENTIALS
    aws = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": key, "AWS_DEFAULT_REGION": REGION}

    assert_used(deployed, tmp_path, settings, **aws, AWS_ENDPOINT_URL=store.url)


@contextmanager
def vault(secrets: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Serve secrets as version 2 of Vault's key-value engine does; the first part of a name is the engine's path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            engine, _, name = self.path.removeprefix("/v1/").partition("/data/")
            secret = secrets.get(f"{engine}/{name}")
            if self.headers["X-Vault-Token"] != VAULT_TOKEN:
                self.answer(403, {"errors": ["permission denied"]})
            elif self.path == "/v1/auth/token/lookup-self":
                self.answer(200, {"data": {"id": VAULT_TOKEN}})
            elif secret is None:
                self.answer(404, {"errors": []})
            else:
                self.answer(200, {"data": {"data": secret, "metadata": {"version": 1}}})

        def answer(self, status: int, body: dict[str, Any]) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with serving(Handler) as url:
        yield url


def test_a_connection_in_vault_is_used(deployed: Deployed, tmp_path: Path) -> None:
    settings, arguments = settings_of("hashicorp")
    secret = f"{arguments['mount_point']}/{arguments['connections_path']}/{CONNECTION}"
    with vault({secret: {"conn_uri": connection_to(deployed)}}) as url:
        assert_used(deployed, tmp_path, settings.replace(arguments["url"], url), VAULT_TOKEN=VAULT_TOKEN)
