"""The failed parts of a job in groups: as text for the task log, and as plain records for callbacks. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_provider_rayagent.failures.failure_kinds import FailureKind
from airflow_provider_rayagent.text.sanitization import sanitize
from airflow_provider_rayagent.text.storable import storable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_provider_rayagent.failures.ray_records import Failure

MAX_GROUPS = 10
MAX_NAME = 100
"""Characters of the name of a function or a class."""
MAX_REASON = 300
MAX_LAST_LINE = 300
"""Characters of one line of a process's standard error."""
MAX_LAST_LINES = 8_000
"""Characters of all lines of standard error in one text: Airflow and OpenLineage repeat the text of an exception."""
_PLURALS = {"task": "tasks", "actor": "actors", "node": "nodes"}


class Cause(TypedDict):
    """A group of equal failures, as ``error.causes`` has it: JSON, without secrets.

    ``part`` is ``task``, ``actor`` or ``node``; ``kind`` one of the kinds of :class:`.RayAgentRetryPolicy` or ``None``.
    ``first_at`` is in ISO 8601, in UTC. ``node_id``, ``pid`` and ``last_lines`` are those of the first one.
    """

    part: str
    name: str
    count: int
    is_at_least: bool
    kind: str | None
    reason: str
    follows: bool
    first_at: str | None
    node_id: str | None
    node_ip: str | None
    pid: int | None
    last_lines: list[str]


@dataclass(frozen=True)
class Group:
    """Equal failures.

    :param failures: in the order of time, at least one.
    :param is_at_least: whether Ray has more than it has listed.
    :param last_lines: the end of the standard error of the first one's process.
    """

    failures: tuple[Failure, ...]
    is_at_least: bool = False
    last_lines: tuple[str, ...] = ()

    @property
    def first(self) -> Failure:
        """The first failure."""
        return self.failures[0]

    @property
    def count(self) -> int:
        """Number of failures."""
        return len(self.failures)

    def with_first(self, **changes: Any) -> Group:
        """Return the group with other fields of the first failure."""
        return replace(self, failures=(replace(self.first, **changes), *self.failures[1:]))


def grouped(failures: Sequence[Failure], *, is_at_least: bool = False) -> list[Group]:
    """Return failures in groups of the same function and reason, with the first cause first.

    :param failures: in the order of time.
    :param is_at_least: whether Ray has more failed tasks than are listed.
    """
    found: dict[tuple[str, str, str], list[Failure]] = {}
    for failure in failures:
        found.setdefault((failure.part, failure.name, failure.group_by), []).append(failure)
    groups = [Group(tuple(each), is_at_least=is_at_least and each[0].part == "task") for each in found.values()]
    # Stable: what follows from another failure stands after what does not.
    return sorted(groups, key=lambda group: group.first.follows)


def describe_causes(groups: Sequence[Group], addresses: Mapping[str, str], redact: Callable[[str], str]) -> list[str]:
    """Return the lines of the task log about groups.

    :param addresses: IP addresses of nodes by their ids.
    :param redact: redacts secrets.
    """
    lines = []
    left = MAX_LAST_LINES
    for group in groups[:MAX_GROUPS]:
        lines.append(f"  {_sentence(group, addresses, redact)}")
        shown = _last_lines(group, left, redact)
        left -= sum(map(len, shown))
        if shown:
            whose = "its" if group.count == 1 else "the first one's"
            lines.append(f"    {whose} last lines of standard error:")
            lines += [f"      {line}" for line in shown]
    if len(groups) > MAX_GROUPS:
        lines.append(f"  and {len(groups) - MAX_GROUPS} more kinds of failures")
    return lines


def _last_lines(group: Group, characters: int, redact: Callable[[str], str]) -> list[str]:
    """Return the last lines of a group's first process, with so many characters at most."""
    shown: list[str] = []
    for line in reversed(group.last_lines):
        text = sanitize(line, redact, length=MAX_LAST_LINE)
        characters -= len(text)
        if characters < 0:
            break
        shown.insert(0, text)
    return shown


def causes_of(groups: Sequence[Group], addresses: Mapping[str, str], redact: Callable[[str], str]) -> list[Cause]:
    """Return groups as plain records."""
    return [storable(_cause(group, addresses, redact)) for group in groups[:MAX_GROUPS]]


def _cause(group: Group, addresses: Mapping[str, str], redact: Callable[[str], str]) -> Cause:
    first = group.first
    return {
        "part": first.part,
        "name": sanitize(first.name or addresses.get(first.node_id, ""), redact, length=MAX_NAME),
        "count": group.count,
        "is_at_least": group.is_at_least,
        "kind": first.kind.value if first.kind else None,
        "reason": sanitize(first.reason, redact, length=MAX_REASON),
        "follows": first.follows,
        "first_at": None if first.at is None else _time(first.at).isoformat(timespec="milliseconds"),
        "node_id": sanitize(first.node_id, redact, length=MAX_NAME) or None,
        "node_ip": sanitize(addresses.get(first.node_id, ""), redact, length=MAX_NAME) or None,
        "pid": first.pid,
        "last_lines": _last_lines(group, MAX_LAST_LINES, redact),
    }


def _sentence(group: Group, addresses: Mapping[str, str], redact: Callable[[str], str]) -> str:
    first, many = group.first, group.count > 1
    count = f"at least {group.count}" if group.is_at_least else str(group.count)
    name = sanitize(first.name, redact, length=MAX_NAME)
    reason = sanitize(first.reason, redact, length=MAX_REASON)
    noun = _PLURALS[first.part] if many else first.part
    if first.part == "node":
        verb = "were preempted" if many else "was preempted"
        if first.kind is not FailureKind.PREEMPTED:
            verb = "were lost" if many else "was lost"
        at = f" at {_time(first.at):%H:%M:%S} UTC" if first.at is not None else ""
        where = f"{'first ' if many else ''}{_node(first.node_id, addresses)}{at}"
        return f"{count} {noun} {verb}: {where}" + (f" ({reason})" if reason else "")
    text = f"{count} {noun} {name} {'failed' if first.part == 'task' else 'died'}: {reason}"
    calls = sum(each.calls for each in group.failures)
    if calls:
        text += f"; {calls} of {'their' if many else 'its'} calls failed"
    if first.follows:
        text += "; this follows from another failure"
    facts = []
    if first.at is not None:
        facts.append(f"{'first ' if many else ''}{_time(first.at):%H:%M:%S} UTC")
    if first.node_id:
        facts.append(f"node {_node(first.node_id, addresses)}")
    if first.pid is not None:
        facts.append(f"pid {first.pid}")
    return f"{text} ({', '.join(facts)})" if facts else text


def _node(node_id: str, addresses: Mapping[str, str]) -> str:
    """Return the address of a node, with its id if others have the same address, as those of one machine do."""
    short, address = sanitize(node_id, length=MAX_NAME)[:8], addresses.get(node_id)
    if not address:
        return short
    is_unique = sum(each == address for each in addresses.values()) == 1
    shown = sanitize(address, length=MAX_NAME)
    return shown if is_unique else f"{shown} [{short}]"


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=timezone.utc)
