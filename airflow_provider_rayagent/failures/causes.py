"""The failed parts of a job in groups: as plain records for callbacks, and as text for the task log. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypedDict

from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.text.nodes import shown_node
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.text.storable import storable
from airflow_provider_rayagent.text.times import moment_of, shown_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from airflow_provider_rayagent.failures.ray_records import Failure

MAX_GROUPS = 10
MAX_NAME = 100
"""Characters of the name of a function or a class."""
MAX_REASON = 300
LAST_LINES = 20
"""Lines of a process's standard error."""
MAX_LAST_LINE = 300
MAX_LAST_LINES = 8_000
"""Characters of all lines of standard error together: Airflow and OpenLineage repeat the text of an exception."""
_PLURALS = {"task": "tasks", "actor": "actors", "node": "nodes"}


class Cause(TypedDict):
    """A group of equal failures, as ``error.causes`` has it: JSON, without secrets.

    ``sentence`` is what the task log says. ``part`` is ``task``, ``actor`` or ``node``; ``kind`` one of the kinds of
    :class:`.RayAgentRetryPolicy` or ``None``. ``reason`` and what follows it are those of the first one; ``first_at``
    is in ISO 8601, in UTC.
    """

    sentence: str
    part: str
    name: str
    count: int
    is_at_least: bool
    kind: str | None
    follows: bool
    reason: str
    first_at: str | None
    node_id: str | None
    node_ip: str | None
    pid: int | None
    last_lines: list[str]


@dataclass(frozen=True)
class Group:
    """Failures of the same function or class, for the same kind of reason.

    :param failures: in the order of time, at least one.
    :param is_at_least: whether Ray has more than it has listed.
    :param stderr: the end of the standard error of the first one's process.
    """

    failures: tuple[Failure, ...]
    is_at_least: bool = False
    stderr: str = ""

    @property
    def first(self) -> Failure:
        """The first failure."""
        return self.failures[0]

    @property
    def count(self) -> int:
        """Number of failures."""
        return len(self.failures)

    def with_first(self, first: Failure) -> Group:
        """Return the group with another first failure."""
        return replace(self, failures=(first, *self.failures[1:]))


def grouped(failures: Iterable[Failure], *, incomplete: Sequence[str] = ()) -> list[Group]:
    """Return failures in groups, with the first cause first.

    :param incomplete: the parts of which Ray has more than it has listed.
    """
    found: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in sorted(failures, key=_time_of):
        found.setdefault((failure.part, failure.name, failure.group_by), []).append(failure)
    return in_order(Group(tuple(each), is_at_least=each[0].part in incomplete) for each in found.values())


def in_order(groups: Iterable[Group]) -> list[Group]:
    """Return groups by time; what follows from another failure stands after what does not."""
    return sorted(groups, key=lambda group: (group.first.follows, _time_of(group.first)))


def _time_of(failure: Failure) -> tuple[bool, float, bool]:
    # A node before what failed with it at the same time.
    return failure.at is None, failure.at or 0.0, failure.part != "node"


def last_within(lines: Sequence[str], characters: int) -> list[str]:
    """Return as many of the last lines as have so many characters at most."""
    kept: list[str] = []
    for line in reversed(lines):
        characters -= len(line)
        if characters < 0:
            break
        kept.append(line)
    return kept[::-1]


def causes_of(groups: Sequence[Group], addresses: Mapping[str, str], redact: Callable[[str], str]) -> list[Cause]:
    """Return groups as plain records.

    :param addresses: IP addresses of nodes by their ids.
    :param redact: redacts secrets.
    """
    causes, left = [], MAX_LAST_LINES
    for group in groups[:MAX_GROUPS]:
        cause = _cause(group, addresses, redact)
        # Redacted before it is split, since a secret can have several lines.
        lines = redact(group.stderr).split("\n")[-LAST_LINES:] if group.stderr else []
        cause["last_lines"] = last_within([sanitize(line, length=MAX_LAST_LINE) for line in lines], left)
        left -= sum(map(len, cause["last_lines"]))
        causes.append(storable(cause))
    return causes


def describe_causes(causes: Iterable[Cause]) -> list[str]:
    """Return the lines of the task log about causes."""
    lines = []
    for cause in causes:
        lines.append(f"  {cause['sentence']}")
        if cause["last_lines"]:
            which = "its process" if cause["count"] == 1 else "the first one's process"
            lines.append(f"    the last lines of {which}:")
            lines += [f"      {line}" for line in cause["last_lines"]]
    return lines


def _cause(group: Group, addresses: Mapping[str, str], redact: Callable[[str], str]) -> Cause:
    first = group.first

    def shown(text: str, length: int = MAX_NAME) -> str:
        return sanitize(text, redact, length=length)

    address = shown(addresses.get(first.node_id, ""))
    cause: Cause = {
        "sentence": "",
        "part": first.part,
        "name": shown(first.name) or address,
        "count": group.count,
        "is_at_least": group.is_at_least,
        "kind": first.kind.value if first.kind else None,
        "follows": first.follows,
        "reason": shown(first.reason, MAX_REASON),
        "first_at": None if first.at is None else moment_of(first.at).isoformat(timespec="milliseconds"),
        "node_id": shown(first.node_id) or None,
        "node_ip": address or None,
        "pid": first.pid,
        "last_lines": [],
    }
    cause["sentence"] = _sentence(group, cause, shown_node(first.node_id, addresses, redact))
    return cause


def _sentence(group: Group, cause: Cause, node: str) -> str:
    first, many = group.first, group.count > 1
    noun = _PLURALS[first.part] if many else first.part
    text = f"{'at least ' if group.is_at_least else ''}{group.count} {noun}"
    at = "" if first.at is None else shown_clock(first.at)
    if first.part == "node":
        happened = "preempted" if first.kind is FailureKind.PREEMPTED else "lost"
        text += f" {'were' if many else 'was'} {happened}: {'first ' if many else ''}{node}{f' at {at}' if at else ''}"
        return f"{text} ({cause['reason']})" if cause["reason"] else text
    is_silent = first.error_type == "ACTOR_UNAVAILABLE"
    text += f" {cause['name']} {'failed' if first.part == 'task' else 'did not answer' if is_silent else 'died'}"
    if cause["reason"]:
        # Of the others, the processes were not asked, and an exception has another message.
        text += f"{', the first one' if many else ''}: {cause['reason']}"
    calls = len(frozenset[str]().union(*(each.calls for each in group.failures)))
    if calls:
        text += f"; {calls} of {'their' if many else 'its'} calls failed"
    if first.follows:
        text = f"{text.rstrip('.')}; this follows from another failure"
    facts = [at, f"node {node}" if node else "", "" if first.pid is None else f"pid {first.pid}"]
    shown = ", ".join(filter(None, facts))
    return f"{text} ({shown})" if shown else text
