"""The ends of jobs: which of them are events, which were events already, and what an event says. Pure.

Every poll lists all jobs that a service knows. An end is one job id with one start and end time, so a job whose id is
used again after a restart of Ray ends a second time. A :class:`WatchPosition` tells which ends were events.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypedDict, cast

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError
from airflow_provider_rayagent.run.started_by_watchers import EVENT_ID_PREFIX, mark_in
from airflow_provider_rayagent.services.job_secrets import redactor_of, without_masked_names
from airflow_provider_rayagent.services.jobs import (
    JobStatus,
    Primitive,
    duration_of,
    has_ended,
    id_of,
    milliseconds,
    summarize,
)
from airflow_provider_rayagent.services.validation import json_object, shown, validate_choice, validate_text
from airflow_provider_rayagent.text.sanitization import sanitize, sanitized

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow_provider_rayagent.text.redaction import Redactor

    Job = Mapping[str, Any]

FINAL_STATUSES = tuple(status.value for status in JobStatus if status.is_terminal)
WINDOW_MS = 600_000
"""An end that is older than the newest one by up to this is still found: the nodes of a cluster, whose clocks tell when
a job ended, need not agree on the time."""
PROMPT_MS = 30_000
"""If the first list comes within this time, all ends in it are old, unless the clock of the service is known."""
CLOCK_MS = 5_000
"""How far the clock of a service may be ahead of its estimate."""
MAX_SEEN = 2_000
"""Ends in a position, which is a row of Airflow's database; with more in :data:`WINDOW_MS`, the window is shorter."""
MAX_MESSAGE = 1_000
"""Characters of the message in an event, which Airflow prints to the log of the triggerer."""
MAX_JOB_ID = 300
"""Characters of a job id in an event. Ray takes any id of up to some 239 bytes."""
# Ray itself shows it as the name of a job (``JOB_NAME_METADATA_KEY`` in ``dashboard/modules/job/common.py``).
_NAME = "job_name"
_NO_DETAILS: Job = {}


class JobEndEvent(TypedDict):
    """The payload of an event. Everything in it is redacted and safe to show."""

    event_id: str
    """The same for the same end of a job and the same watcher."""
    rayagent_conn_id: str
    job_id: str
    status: Primitive
    message: Primitive
    error_type: Primitive
    entrypoint: str
    metadata: Any
    start_time: Primitive
    """In ms since the epoch, like ``end_time``."""
    end_time: int
    duration: float | None
    """In seconds."""


@dataclass(frozen=True, slots=True)
class JobEnd:
    """The end of a job.

    :param time: when it ended, in ms since the epoch by the clock of the service.
    :param digest: identifies the end.
    :param job: the job's details, which may contain secrets.
    """

    time: int
    digest: str
    job: Job = field(repr=False)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are watched.

    :param name: glob pattern of the submission id, or of ``job_name`` in the metadata; ``None``: any.
    :param metadata: entries that the job's metadata must have.
    :param statuses: final statuses; ``None``: all, also those that a newer Ray may have.
    :param excluded: entries of which the job's metadata must have none.
    """

    name: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    statuses: Sequence[str] | None = None
    excluded: Mapping[str, Any] = field(default_factory=dict)

    def matches(self, job: Job) -> bool:
        """Whether a job that has ended is watched."""
        metadata = job.get("metadata")
        found = metadata if isinstance(metadata, dict) else {}
        names = [name for name in (id_of(job), found.get(_NAME)) if isinstance(name, str)]
        return (
            (self.statuses is None or job.get("status") in self.statuses)
            and all(name in found and found[name] == value for name, value in self.metadata.items())
            and not any(name in found and found[name] == value for name, value in self.excluded.items())
            and (self.name is None or any(fnmatchcase(name, self.name) for name in names))
        )


@dataclass(frozen=True)
class WatchPosition:
    """Which ends were events.

    :param since: ends before this time are no events any more, in ms since the epoch.
    :param seen: the later ones that were events, or were there before the watcher: time by digest.
    :param has_begun: whether it is known which ends were there before. If not, no end is an event, and ``since`` is
        when the watcher was created, by the clock of its triggerer.
    """

    since: int
    seen: Mapping[str, int] = field(default_factory=dict)
    has_begun: bool = True

    def has(self, end: JobEnd) -> bool:
        """Whether an end is no event any more."""
        return end.time < self.since or end.digest in self.seen

    def begun(self, ends: Iterable[JobEnd], now: float, ahead: float | None) -> WatchPosition:
        """Return the position after the first list of jobs.

        What is in it is no event, unless it has ended since the watcher was created, by the clock of the service. If
        that is unknown, the clock of the triggerer decides only if the list is late, such as after an outage.

        :param ends: those in the list that are watched.
        :param now: the time in seconds since the epoch, by the clock of :attr:`since`.
        :param ahead: seconds by which the clock of the service is ahead of it, at least; ``None`` if that is unknown.
        """
        if ahead is not None and any(end.time > (now + ahead) * 1000 + WINDOW_MS for end in ends):
            # That of a proxy, perhaps: jobs have ended in its future.
            ahead = None
        created = self.since + int((ahead or 0.0) * 1000)
        # In a prompt list, an end in the future has a time by another clock.
        latest = created if ahead is None else (now + ahead) * 1000 + CLOCK_MS
        is_prompt = now * 1000 - self.since <= PROMPT_MS
        old = {end.digest: end.time for end in ends if end.time < created or (is_prompt and end.time >= latest)}
        # The earlier of both times, since an earlier one only makes the position longer.
        since = min(created, self.since) - WINDOW_MS
        if len(old) > MAX_SEEN:
            since = max(since, sorted(old.values())[-MAX_SEEN - 1] + 1)
        return _pruned(since, old)

    def after(self, digest: str, time: int, now: float) -> WatchPosition:
        """Return the position after an event. Of several ends, the earliest must be the first event.

        :param now: the time in seconds since the epoch. An end in the future, which a wrong clock has told, does not
            move the window.
        """
        seen = {**self.seen, digest: time}
        since = max(self.since, min(time, int(now * 1000)) - WINDOW_MS)
        if len(seen) > MAX_SEEN:
            # Not past this end: the next one may have the same time.
            since = max(since, min(sorted(seen.values())[-MAX_SEEN - 1] + 1, time))
        return _pruned(since, seen)

    def merged(self, other: WatchPosition) -> WatchPosition:
        """Return the position after the events of both."""
        return _pruned(max(self.since, other.since), {**self.seen, **other.seen})

    def to_json(self) -> dict[str, Any]:
        """Return the position as JSON."""
        begun = {} if self.has_begun else {"begun": False}
        return {"since": self.since, "seen": dict(self.seen), **begun}

    @classmethod
    def from_json(cls, value: object) -> WatchPosition | None:
        """Return the position from a value of :meth:`to_json`; ``None`` for anything else."""
        if not isinstance(value, dict):
            return None
        since, seen = value.get("since"), value.get("seen")
        if not isinstance(since, int) or not isinstance(seen, dict):
            return None
        if not all(isinstance(time, int) for time in seen.values()):
            return None
        # One that was stored before there was ``begun`` has begun.
        return cls(since, seen, value.get("begun") is not False)


def _pruned(since: int, seen: Mapping[str, int]) -> WatchPosition:
    return WatchPosition(since, {digest: time for digest, time in seen.items() if time >= since})


def ends_of(jobs: Iterable[Job], known: Mapping[str, JobEnd]) -> dict[str, JobEnd]:
    """Return the ends of jobs by their digests, the earliest first.

    A driver that nobody has submitted is no job. Without an end time, an end cannot be told from that of another job
    with the same id, so it is left out; Ray sets the time with each final status
    (``JobInfoStorageClient.put_status`` in ``dashboard/modules/job/common.py``).

    :param known: the ends of an earlier list. Those that are still there are returned, so that of several lists in
        memory each job's details are there once.
    """
    found = [end for end in (_end_of(job, known) for job in jobs) if end is not None]
    # By the digest only so that the order is the same each time.
    found.sort(key=lambda end: (end.time, end.digest))
    return {end.digest: end for end in found}


def details_of_end(job: Job, known: Mapping[str, JobEnd]) -> Job:
    """Return what :func:`ends_of` needs of a job: nothing if it has not ended, and those of a known end if it has."""
    end = _end_of(job, known)
    return _NO_DETAILS if end is None else end.job


def _end_of(job: Job, known: Mapping[str, JobEnd]) -> JobEnd | None:
    time = milliseconds(job.get("end_time"))
    is_driver = job.get("type") == "DRIVER" and not job.get("submission_id")
    if time is None or is_driver or not has_ended(job):
        return None
    identity = f"{id_of(job)}\0{job.get('start_time')}\0{time}"
    digest = hashlib.sha256(identity.encode("utf-8", "replace")).hexdigest()[:16]
    return known.get(digest) or JobEnd(int(time), digest, job)


def validated_filter(name: object, metadata: object, statuses: object, excluded: object = None) -> JobFilter:
    """Return the filter that a watcher's arguments describe, in JSON's own types.

    :raises RayAgentInputError: if one is invalid.
    """
    if name is not None:
        name = validate_text(name, "job name pattern")
    found, left_out = _validated_metadata(metadata, "metadata"), _validated_metadata(excluded, "exclude_metadata")
    if statuses is None:
        return JobFilter(name, found, excluded=left_out)
    if isinstance(statuses, str) or not isinstance(statuses, (list, tuple)) or not statuses:
        raise RayAgentInputError(f"statuses must be a list of statuses, or None for all, not {shown(statuses)}.")
    chosen = [validate_choice(each, "final status", FINAL_STATUSES) for each in statuses]
    return JobFilter(name, found, chosen, left_out)


def _validated_metadata(value: object, argument: str) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise RayAgentInputError(f"{argument} is not valid JSON: {shown(value)}.") from None
    found = {} if value is None else json_object(value, argument)
    for key, entry in found.items():
        if not isinstance(entry, str):
            # Ray refuses jobs with other values, so that nothing would ever match.
            raise RayAgentInputError(
                f'{argument}[{shown(key)}] must be a string, as in Ray, such as "3", not {shown(entry)}.'
            )
    return found


def watch_id_of(rayagent_conn_id: str, watched: JobFilter) -> str:
    """Return what identifies a watcher: an asset may have several, and each has a position of its own."""
    statuses = None if watched.statuses is None else sorted(watched.statuses)
    excluded = [watched.excluded] if watched.excluded else []
    text = json.dumps([rayagent_conn_id, watched.name, watched.metadata, statuses, *excluded], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def event_of(end: JobEnd, watch_id: str, rayagent_conn_id: str, redact: Redactor) -> JobEndEvent:
    """Return the payload of the event of an end.

    :param redact: redacts the secrets of the connection.
    """
    job = without_masked_names(end.job)
    redact = redactor_of(end.job, redact)
    summary = summarize(job, id_of(job), redact)
    fields = ("status", "error_type", "metadata", "start_time")
    event = {
        "event_id": f"{EVENT_ID_PREFIX}-{watch_id}-{end.digest}",
        "rayagent_conn_id": rayagent_conn_id,
        "job_id": sanitize(id_of(job), redact, length=MAX_JOB_ID),
        "message": sanitize(str(job.get("message") or ""), redact, length=MAX_MESSAGE, lines=True),
        "entrypoint": sanitize(str(job.get("entrypoint") or ""), redact, length=MAX_MESSAGE),
        "end_time": end.time,
        "duration": duration_of(job),
        **{name: sanitized(summary.get(name)) for name in fields},
    }
    return cast("JobEndEvent", event)


def mark_of(payload: object) -> tuple[str, str, int] | None:
    """Return the id of the watcher, the digest and the time of the end in an event; ``None`` for other events."""
    if not isinstance(payload, dict):
        return None
    mark, time = mark_in(payload.get("event_id")), payload.get("end_time")
    return (*mark, time) if mark is not None and isinstance(time, int) else None


def position_key(watch_id: str) -> str:
    """Return the key of a watcher's position in the state store of its asset."""
    return f"rayagent_jobs_{watch_id}"
