"""What the text of an exception of Ray tells about its cause. Pure.

Records have such texts, too: Ray records the exception of a task, and the death of an actor, as it shows them.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from airflow_provider_rayagent.failures.failure_kinds import FailureKind

_KINDS_BY_EXCEPTION = {
    "NodeDiedError": FailureKind.NODE_DIED,
    "LocalRayletDiedError": FailureKind.NODE_DIED,
    "WorkerCrashedError": FailureKind.WORKER_LOST,
    # Also while Ray does not know yet that the actor's node died.
    "ActorUnavailableError": FailureKind.WORKER_LOST,
    "OutOfMemoryError": FailureKind.OUT_OF_MEMORY,
    "RuntimeEnvSetupError": FailureKind.RUNTIME_ENV,
    "TaskUnschedulableError": FailureKind.RESOURCES,
    "ActorUnschedulableError": FailureKind.RESOURCES,
    "ObjectStoreFullError": FailureKind.STORAGE_FULL,
    "OutOfDiskError": FailureKind.STORAGE_FULL,
    # What a function that Ray Data calls has raised (``data/_internal/planner``).
    "UserCodeException": FailureKind.PROGRAM,
    # The exception of a task.
    "RayTaskError": FailureKind.PROGRAM,
}
"""Other exceptions of Ray do not tell who caused them, such as that of an object that was lost."""
_OF_ANOTHER_FAILURE = re.compile(
    r"ray\.exceptions\.(?:RayTaskError|RayActorError|ActorDiedError|ActorUnavailableError|WorkerCrashedError|"
    r"NodeDiedError|LocalRayletDiedError|OutOfMemoryError|Object\w*Lost\w*|ObjectReconstruction\w*|OwnerDiedError|"
    r"TaskCancelledError|TaskUnschedulableError|ActorUnschedulableError|RuntimeEnvSetupError)\b"
)
"""An exception that a task gets since another task, an actor or a node has failed."""
_KINDS_BY_WORDS = {
    "due to the node running low on memory": FailureKind.OUT_OF_MEMORY,
    "its node has died": FailureKind.NODE_DIED,
    # A process that ended by itself: sys.exit in an actor.
    "exits with an exit code": FailureKind.PROGRAM,
    "INTENDED_USER_EXIT": FailureKind.PROGRAM,
    "placement group was removed": FailureKind.PROGRAM,
    "its worker process has died": FailureKind.WORKER_LOST,
    "killed by `ray.kill`": FailureKind.PROGRAM,
    "references to the actor were removed": FailureKind.PROGRAM,
    "error raised in its creation task": FailureKind.PROGRAM,
}
"""Words of Ray about a dead actor (the message of ``ActorDiedError``); the first that are found count."""
_END_OF_KILLERS_TEXT = "Refer to the documentation on how to address the out of memory issue: https://docs.ray.io"
_RAYLETS_LINE = "] (raylet) "
_EXCEPTION_OF_RAY = re.compile(r"ray\.exceptions\.(\w+)")
_KINDS_BY_TRAIN_EXCEPTION = {
    "PreemptionError": FailureKind.PREEMPTED,
    # A collective operation that waits for a worker which does not answer (``train/v2/api/exceptions.py``).
    "NCCLHangError": FailureKind.WORKER_LOST,
}
_WRAPPER = re.compile(r"ray\.(?:train|tune)\.(?:\w+\.)*(\w+Error)\b")
"""An exception such as ``TrainingFailedError``, which does not tell the cause. The one that it was raised from does."""
_RAISED_FROM = "The above exception was the direct cause of the following exception:"
_RAYS_TEXT = re.compile(
    r"$|\t|    \[\d{4}-|\[\d{4}-\d\d-\d\d \S+ [A-Z] \d+ \d+\] |PID\tMEM|\d+\t|"
    r"(?:The actor (?:died because|is dead because|never ran) |The node IP: |This can happen if |Memory on the node |"
    r"Refer to the documentation on |To see node death information|The object cannot be created because |"
    r"The local object store is full of objects )"
)
"""A line that can follow the first one of an exception of Ray: its own text, or the log of Ray's core."""
_EXCEPTION_LINE = re.compile(r"[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Timeout)\b")
_FRAME_HEAD = re.compile(r"\s+File \".*\", line \d+")
_USER_CODE = "ray.exceptions.UserCodeException"
_FRAME = re.compile(r"  +(?!\[\d{4}-)\S")
"""A line of a traceback, but not of a raylet's log, which Ray appends to that of the program when the raylet dies."""


class Ending(NamedTuple):
    """What a program was ended by.

    :param exception: see :func:`.exception_of_ray`.
    :param kind: what it tells about the cause; ``None``: nothing.
    """

    exception: str | None
    kind: FailureKind | None


_BY_PROGRAM = Ending(None, FailureKind.PROGRAM)
_UNKNOWN = Ending("", None)


def ending_of(lines: list[str]) -> Ending:
    """Return what ended a program with an unhandled exception.

    :param lines: its last ones.
    """
    index = _last_exception(lines)
    if index is None:
        # Other text of Ray can have more lines than are available: that about its killer, or the log of a dead raylet.
        if lines and lines[-1].startswith(_END_OF_KILLERS_TEXT):
            return Ending("", FailureKind.OUT_OF_MEMORY)
        if any(_RAYLETS_LINE in line for line in lines):
            return _UNKNOWN
        return _BY_PROGRAM
    if not is_exception_of_ray(lines[index]):
        return _BY_PROGRAM
    kind = kind_of_exception("\n".join(lines[index:]))
    name = _EXCEPTION_OF_RAY.match(lines[index])
    if name is None:
        above = _lines_of_cause(lines[:index])
        cause = ending_of(above) if above else _UNKNOWN
        return Ending(cause.exception or "", kind or cause.kind)
    # A program that goes on has handled the exception, and fails for another reason.
    if not all(map(_RAYS_TEXT.match, lines[index + 1 :])):
        return Ending(None, kind if kind is FailureKind.PROGRAM else None)
    return Ending(name[1], kind)


def _lines_of_cause(lines: list[str]) -> list[str]:
    """Return the lines about the exception that another one was raised from; empty if they are not available.

    :param lines: those before the other one.
    """
    if _RAISED_FROM not in lines:
        return []
    above = lines[: len(lines) - 1 - lines[::-1].index(_RAISED_FROM)]
    return above if _last_exception(above) is not None else []


def _last_exception(lines: list[str]) -> int | None:
    """Return the index of the first line of the last exception; ``None`` if there is none."""
    for index in range(len(lines) - 1, -1, -1):
        line = lines[index]
        if _EXCEPTION_OF_RAY.match(line):
            return index
        # The exception follows the source code of the last frame, or the markers below it, which are indented alike.
        if index > 0 and _FRAME.match(lines[index - 1]) and line.strip() and line[0] not in " \t":
            return index
    return None


def last_exception(text: str) -> str | None:
    """Return the type and the message of the exception that ends a traceback, in one line; ``None`` if there is none.

    :param text: a traceback, or its end: Ray keeps the last 500 characters.
    """
    lines = text.rstrip().split("\n")
    frames = [index for index, line in enumerate(lines) if _FRAME_HEAD.match(line)]
    if frames:
        # The source code of the frame, and the markers below it, are indented. A message may have further lines.
        found = next((line for line in lines[frames[-1] + 1 :] if line.strip() and line[0] not in " \t"), None)
    else:
        index = _last_exception(lines)
        # Of the frames, nothing may be left.
        found = lines[index] if index is not None else next(filter(_EXCEPTION_LINE.match, reversed(lines)), None)
    if found is not None and found.startswith(_USER_CODE) and _RAISED_FROM in lines:
        return last_exception("\n".join(_lines_of_cause(lines))) or found.strip()
    return found.strip() if found is not None else None


def is_exception_of_ray(line: str) -> bool:
    """Return whether a line is the first one of an exception of Ray, which does not tell of an error in the program."""
    return (_EXCEPTION_OF_RAY.match(line) or _WRAPPER.match(line)) is not None


def follows_from_another(line: str) -> bool:
    """Return whether an exception tells that something else has failed, of which Ray has a record of its own."""
    return _OF_ANOTHER_FAILURE.match(line) is not None


def kind_of_exception(text: str) -> FailureKind | None:
    """Return what an exception of Ray tells about its cause; ``None`` if it does not.

    :param text: it begins with the type.
    """
    if wrapper := _WRAPPER.match(text):
        return _KINDS_BY_TRAIN_EXCEPTION.get(wrapper[1])
    name = _EXCEPTION_OF_RAY.match(text)
    return (_KINDS_BY_EXCEPTION.get(name[1]) if name else None) or kind_by_words(text)


def kind_by_words(text: str) -> FailureKind | None:
    """Return what Ray's text about a dead actor tells about its cause; ``None`` if it does not."""
    return next((kind for words, kind in _KINDS_BY_WORDS.items() if words in text), None)
