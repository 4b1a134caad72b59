"""One request to a service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Call:
    """One request to the agent.

    :param method: HTTP method.
    :param path: path below the base URL, quoted, with its trailing slash if the agent's client sends one.
    :param shape: what a good answer holds: a JSON object, a JSON list of objects, text, or nothing; ``any`` where that
        is not known.
    :param body: JSON body, or ``None``.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    shape: Literal["object", "list", "text", "nothing", "any"] = "object"
    body: Mapping[str, Any] | None = None

    @property
    def idempotent(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method != "POST"
