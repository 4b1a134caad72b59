"""One request to a service, operations that take several, and how blocking code runs coroutines."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast

from airflow_provider_rayagent.errors.service_errors import RayAgentError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping

ResultT = TypeVar("ResultT")

# Asyncio code reads each chunk in a thread (``_chunks`` in ``transport/aio.py``), so small ones cost more than their
# bytes.
_CHUNK = 256 * 1024


@dataclass(frozen=True)
class FileContent:
    """A request body that is read from a file, again for each attempt.

    :param size: bytes of the file.
    :param on_sent: called with the number of bytes that were sent so far.
    """

    file: IO[bytes]
    size: int
    on_sent: Callable[[int], object] | None = None

    # requests sends the result as Content-Length (``super_len`` in ``requests/utils.py``); without it, it sends the
    # body in chunks.
    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[bytes]:
        self.file.seek(0)
        while chunk := self.file.read(_CHUNK):
            yield chunk
            if self.on_sent is not None:
                self.on_sent(self.file.tell())


@dataclass(frozen=True)
class Call:
    """One request to a service.

    :param method: HTTP method.
    :param path: quoted path and query relative to the base URL, with a trailing slash if the service expects one.
    :param shape: body of a successful response: a JSON object, a JSON list of objects, text, or nothing; ``any`` if
        unknown.
    :param body: JSON body, or ``None``.
    :param convert: converts the value of a successful response to the result; may raise a :class:`RayAgentError`.
    :param content: body that is sent as is, instead of a JSON body.
    :param read_timeout: seconds to wait for the response, if it takes longer than others; ``None``: as configured.
    :param substitute: returns an object that serves as well as the given one, such as an equal one of an earlier
        response. It may be called, in any thread, with each object of a long list as soon as that is parsed. A long
        list of new objects makes Python's garbage collector look at all objects of the process, for 0.2 s or more.
    :param has_unique_id: whether the service refuses a second request with the id in the body, so that even a POST can
        be sent again.
    :param max_bytes: most bytes of a successful response; ``None``: the usual limit.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    shape: Literal["object", "list", "text", "nothing", "any"] = "object"
    body: Mapping[str, Any] | None = None
    convert: Callable[[Any], Any] | None = field(default=None, compare=False)
    content: FileContent | None = field(default=None, compare=False)
    read_timeout: float | None = None
    substitute: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = field(default=None, compare=False)
    has_unique_id: bool = False
    max_bytes: int | None = None

    @property
    def idempotent(self) -> bool:
        """Whether sending the request twice has the same effect as sending it once."""
        # PUT and DELETE are idempotent (RFC 9110, section 9.2.2).
        return self.method != "POST" or self.has_unique_id

    @property
    def name(self) -> str:
        """Method and path, as messages show them."""
        return f"{self.method} /{self.path.partition('?')[0]}"


@dataclass(frozen=True)
class Pause:
    """A step of an operation: wait for ``seconds``. Its result is the time afterwards, in monotonic seconds."""

    seconds: float


Steps: TypeAlias = Generator[Call | Pause, Any, Any]
"""An operation of several requests: it yields each, is sent its result or thrown its error, and returns the result."""
Operation: TypeAlias = Call | Steps


def finish(coroutine: Awaitable[ResultT]) -> ResultT:
    """Return the result of a coroutine that never suspends, as those of blocking code."""
    try:
        # Those of an async generator are no coroutines, but have the method too.
        cast("Coroutine[Any, Any, ResultT]", coroutine).send(None)
    except StopIteration as stop:
        result: ResultT = stop.value
        return result
    raise RuntimeError("The coroutine was suspended.")


async def run_steps(operation: Steps, do: Callable[[Call | Pause], Awaitable[Any]]) -> Any:
    """Carry out each step of an operation with ``do``, and return what the operation returns.

    The :class:`RayAgentError` of a step is thrown into the operation.
    """
    try:
        step = next(operation)
        while True:
            try:
                result = await do(step)
            except RayAgentError as error:  # noqa: PERF203 - the outcome of one step
                step = operation.throw(error)
            else:
                step = operation.send(result)
    except StopIteration as stop:
        return stop.value
