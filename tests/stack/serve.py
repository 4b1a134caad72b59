"""Deploy Ray Serve applications with a Ray job, and check their statuses."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.ports import free_ports
from tests.stack.watch import PATIENCE, wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.stack.agent import LocalAgent

DEPLOY = """
import sys
from urllib.parse import quote
from ray import serve

serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})


@serve.deployment(ray_actor_options={"num_cpus": 0})
class Application:
    def __init__(self, name):
        self.name = name

    def __call__(self):
        return f"this is {self.name}"


for name in sys.argv[2:]:
    serve.run(Application.bind(name), name=name, route_prefix=f"/{quote(name)}")
"""


class Serve:
    """Serve on an agent's Ray, with an HTTP proxy on a free port.

    :param directory: directory for the program that deploys the applications.
    """

    def __init__(self, agent: LocalAgent, directory: Path) -> None:
        self.agent = agent
        self.port = free_ports(1)[0]
        self._script = directory / "deploy.py"
        self._script.write_text(DEPLOY, encoding="utf-8")

    def deploy(self, *names: str) -> None:
        """Deploy an application for each name, and wait until all are RUNNING."""
        words = [sys.executable, str(self._script), str(self.port), *names]
        job = self.agent.wait(self.agent.submit(shlex.join(words)))
        assert job["status"] == "SUCCEEDED", job["message"]
        self.wait_for(self.statuses() | dict.fromkeys(names, "RUNNING"))

    def statuses(self) -> dict[str, str]:
        """Return the applications' statuses by name."""

        def look() -> dict[str, str] | None:
            response = self.agent.request("GET", "serve_applications/")
            if response.status_code == 503:
                # On a busy machine, Ray's first answer about applications takes longer than the agent waits.
                return None
            response.raise_for_status()
            return {each["name"]: each["status"] for each in response.json()}

        return wait_until(look, "Ray does not answer about its applications")

    def wait_for(self, wanted: Mapping[str, str]) -> None:
        """Wait until the applications have exactly these statuses."""
        wait_until(lambda: self.statuses() == wanted or None, lambda: f"{self.statuses()}, not {wanted},")

    def answer(self, name: str) -> tuple[int, str]:
        """Send a request to an application; return the status code and the text of its response."""
        import requests

        with requests.Session() as session:
            session.trust_env = False
            response = session.get(f"http://127.0.0.1:{self.port}/{name}", timeout=PATIENCE)
        return response.status_code, response.text
