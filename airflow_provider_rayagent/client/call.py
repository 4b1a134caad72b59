"""One request to a service, and operations that take several."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Call:
    """One request to a service.

    :param method: HTTP method.
    :param path: quoted path and query relative to the base URL, with a trailing slash if the service expects one.
    :param shape: body of a successful response: a JSON object, a JSON list of objects, text, or nothing; ``any`` if
        unknown.
    :param body: JSON body, or ``None``.
    :param convert: converts the value of a successful response to the result; may raise a :class:`RayAgentError`.
    """

    method: Literal["GET", "POST", "DELETE"]
    path: str
    shape: Literal["object", "list", "text", "nothing", "any"] = "object"
    body: Mapping[str, Any] | None = None
    convert: Callable[[Any], Any] | None = field(default=None, compare=False)

    @property
    def idempotent(self) -> bool:
        """Whether sending the request twice has the same effect as sending it once."""
        return self.method != "POST"

    @property
    def name(self) -> str:
        """Method and path, as messages show them."""
        return f"{self.method} /{self.path.partition('?')[0]}"


@dataclass(frozen=True)
class Pause:
    """A step of an operation: wait for ``seconds``."""

    seconds: float


Steps: TypeAlias = Generator[Call | Pause, Any, Any]
"""An operation of several requests: it yields each, is sent its result or thrown its error, and returns the result."""
Operation: TypeAlias = Call | Steps
