"""The third-party client, which runs in an interpreter of its own (see ``driver.py``)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from tests.stack.agent import LocalAgent

DRIVER = Path(__file__).with_name("driver.py")


class TheirError(Exception):
    """An error that the client raised.

    :ivar names: of its class and that class's bases.
    :ivar status_code: what the client says, ``None`` where it says nothing.
    :ivar items: what its generator had yielded before.
    """

    def __init__(self, names: list[str], status_code: int | None, text: str, items: list[Any]) -> None:
        super().__init__(f"{names[0]}: {text}")
        self.names = names
        self.status_code = status_code
        self.items = items


class Client:
    """``synapse_sdk.clients.agent.AgentClient`` in one process for all calls.

    :param python: an interpreter that has ``synapse-sdk``.
    """

    def __init__(self, python: str, agent: LocalAgent) -> None:
        self.agent = agent
        self._process = subprocess.Popen(
            [python, "-u", str(DRIVER)],
            env={name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sys.stderr,
            encoding="utf-8",
        )

    def call(self, method: str, *args: Any, **options: Any) -> Any:
        """Do as :meth:`call_for`, and return only what the method returns."""
        return self.call_for(method, *args, **options)[0]

    def call_for(
        self,
        method: str,
        *args: Any,
        limits: dict[str, int] | None = None,
        token: str | None = None,
        first: Path | None = None,
        **kwargs: Any,
    ) -> tuple[Any, str]:
        """Call a method; return what it returns, a generator's items as a list, and the name of that value's type.

        :param limits: fields of the client's ``StreamLimits``.
        :param token: another one than the agent's.
        :param first: a file that is created when a generator has yielded its first item.
        :raises TheirError: what it raises.
        """
        made_with = {"base_url": self.agent.url, "agent_token": token or self.agent.token}
        request = {"method": method, "args": list(args), "kwargs": kwargs, "client": made_with, "limits": limits}
        answer = self._ask({**request, "first": first and str(first)})
        if "error" in answer:
            raise TheirError(**answer["error"])
        return answer["value"], answer["type"]

    def describe(self) -> dict[str, Any]:
        """Return the client's signatures; see ``driver.py``."""
        return self._ask({"describe": True})

    def close(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(PATIENCE)
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise AssertionError(f"the client's process ended with {self._process.wait(PATIENCE)}")
        answer: dict[str, Any] = json.loads(line)
        return answer
