"""Make calls of the third-party client for another process: a JSON line in, a JSON line out.

Runs in the interpreter that has ``synapse-sdk``, so it imports nothing else but the standard library.

A request has ``method``, ``args`` and ``kwargs``, the client's own ``client`` arguments, and optionally ``limits``
for its streams and the path of a file to create at the ``first`` item of a stream. The answer has the ``value`` (a
generator's items as a list) and its ``type``, or an ``error``.
The request ``{"describe": true}`` is answered with the signatures of the client.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import sys
import typing
from pathlib import Path
from types import GeneratorType
from typing import Any


def main() -> int:
    """Answer requests until the input ends."""
    # What the client prints must not come between the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        for line in sys.stdin:
            request = json.loads(line)
            answer = describe() if request.get("describe") else call(**request)
            answers.write(json.dumps(answer) + "\n")
            answers.flush()
    return 0


def call(
    method: str,
    args: list[Any],
    kwargs: dict[str, Any],
    client: dict[str, Any],
    limits: dict[str, int] | None = None,
    first: str | None = None,
) -> dict[str, Any]:
    """Call one method of a client made for it, and tell what came of it."""
    made = importlib.import_module("synapse_sdk.clients.agent").AgentClient(**client)
    if limits:
        made.stream_limits = _ray().StreamLimits(**limits)
    items: list[Any] = []
    try:
        value = getattr(made, method)(*args, **kwargs)
        kind = type(value).__name__
        if isinstance(value, GeneratorType):
            for item in value:
                items.append(item)  # what came before an error is told too
                if first:
                    Path(first).touch()
            value = items
        if hasattr(value, "model_dump"):
            value = value.model_dump(mode="json")
    except Exception as error:  # noqa: BLE001  # whatever it is, the other side judges it
        return {
            "error": {
                "names": [each.__name__ for each in type(error).__mro__],
                "status_code": getattr(error, "status_code", None),
                "text": str(error),
                "items": items,
            }
        }
    return {"value": value, "type": kind}


def describe() -> dict[str, Any]:
    """Return the client's methods with their parameters, its version, and what its streams can be told."""
    ray = _ray()
    client = importlib.import_module("synapse_sdk.clients.agent").AgentClient
    plugins = importlib.import_module("synapse_sdk.clients.agent.plugin").PluginClientMixin
    resources = importlib.import_module("synapse_sdk.clients.agent.resources").ResourceClientMixin
    names = [name for mixin in (ray.RayClientMixin, resources) for name in vars(mixin) if not name.startswith("_")]
    names.append("health_check")
    found = {name: inspect.getattr_static(client, name) for name in names}
    return {
        "version": importlib.import_module("importlib.metadata").version("synapse-sdk"),
        "properties": [name for name, member in found.items() if isinstance(member, property)],
        "methods": {name: _signature(member) for name, member in found.items() if inspect.isfunction(member)},
        "plugins": {name: _signature(member) for name, member in vars(plugins).items() if inspect.isfunction(member)},
        "limits": [field.name for field in dataclasses.fields(ray.StreamLimits)],
        "protocols": list(typing.get_args(ray.StreamProtocol)),
    }


def _signature(function: Any) -> dict[str, Any]:
    signature = inspect.signature(function)
    return {
        "parameters": [
            [each.name, each.kind.name, None if each.default is each.empty else repr(each.default)]
            for each in signature.parameters.values()
            if each.name != "self"
        ],
        "returns": signature.return_annotation,
    }


def _ray() -> Any:
    return importlib.import_module("synapse_sdk.clients.agent.ray")


if __name__ == "__main__":
    sys.exit(main())
