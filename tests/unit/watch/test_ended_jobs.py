"""Which ends of jobs are events: the filter, the position in random histories, and the payload."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import Any

import pytest

from airflow_provider_rayagent.exceptions import RayAgentInputError
from airflow_provider_rayagent.services.job_secrets import MASKED_ENV_VARS
from airflow_provider_rayagent.text.redaction import Redactor
from airflow_provider_rayagent.watch.ended_jobs import (
    FINAL_STATUSES,
    MAX_MESSAGE,
    MAX_SEEN,
    WINDOW_MS,
    JobEnd,
    JobFilter,
    WatchPosition,
    ends_of,
    event_of,
    mark_of,
    validated_filter,
    watch_id_of,
)
from tests.level import by_level, seeded, seeds

START = 1_700_000_000_000


def job(job_id: str = "train-1", end: object = START + 1_000, **details: Any) -> dict[str, Any]:
    return {
        "type": "SUBMISSION",
        "submission_id": job_id,
        "status": "SUCCEEDED",
        "start_time": START,
        "end_time": end,
        "metadata": {},
        **details,
    }


def one_end(**details: Any) -> JobEnd:
    (end,) = ends_of([job(**details)], {}).values()
    return end


@pytest.mark.parametrize(
    ("watched", "matches"),
    [
        (JobFilter(), True),
        (JobFilter("train-*"), True),
        (JobFilter("train-?"), True),
        (JobFilter("train"), False),
        (JobFilter("Train-*"), False),
        (JobFilter("nightly"), True),
        (JobFilter("night[a-z]*"), True),
        (JobFilter(metadata={"team": "vision"}), True),
        (JobFilter(metadata={"team": "vision", "gpu": "1"}), False),
        (JobFilter(metadata={"team": "Vision"}), False),
        (JobFilter(statuses=["SUCCEEDED", "STOPPED"]), True),
        (JobFilter(statuses=["FAILED"]), False),
        (JobFilter("train-*", {"team": "vision"}, ["FAILED"]), False),
    ],
)
def test_the_filter_takes_the_jobs_that_match_in_all(watched: JobFilter, matches: bool) -> None:
    assert watched.matches(job(metadata={"team": "vision", "job_name": "nightly"})) is matches


@pytest.mark.parametrize("metadata", [None, "text", ["vision"], {}])
def test_metadata_of_any_form_is_none(metadata: Any) -> None:
    assert JobFilter().matches(job(metadata=metadata))
    assert not JobFilter(metadata={"team": "vision"}).matches(job(metadata=metadata))
    assert not JobFilter("None").matches(job(metadata=metadata))


def test_only_submitted_jobs_with_an_end_have_ended() -> None:
    jobs = [
        job("running", None, status="RUNNING"),
        # Such as the time of an earlier run, or a lie.
        job("resumed", status="RUNNING"),
        job("no-time", None),
        job("bad-time", "soon"),
        job("new-status", status="EVICTED"),
        job("ended"),
        {**job(), "type": "DRIVER", "submission_id": None, "job_id": "01000000"},
        # As an agent may list it.
        {"job_id": "by-agent", "status": "FAILED", "end_time": START},
        {},
    ]
    found = ends_of(jobs, {}).values()
    ids = [end.job.get("submission_id") or end.job["job_id"] for end in found]
    assert ids[0] == "by-agent"
    assert set(ids) == {"by-agent", "new-status", "ended"}


def test_the_details_of_an_end_are_kept_once() -> None:
    first = ends_of([job("a"), job("b")], {})
    again = ends_of([job("a"), job("b"), job("c")], first)
    assert all(again[digest] is end for digest, end in first.items())
    assert len(again) == 3


def test_an_id_that_is_used_again_ends_again() -> None:
    end, again = one_end(), one_end(end=START + 2_000)
    assert end.digest != again.digest
    assert one_end().digest == end.digest
    position = WatchPosition(START).after(end.digest, end.time, START / 1000)
    assert position.has(end)
    assert not position.has(again)


def test_an_end_in_the_future_hides_no_other() -> None:
    future = one_end(job_id="future", end=START + 10 * WINDOW_MS)
    position = WatchPosition(START).after(future.digest, future.time, START / 1000 + 1)
    assert position.has(future)
    assert not position.has(one_end())


def test_an_earlier_end_is_found_within_the_window() -> None:
    newest = one_end(job_id="newest", end=START + 3 * WINDOW_MS)
    position = WatchPosition(START).after(newest.digest, newest.time, newest.time / 1000)
    assert not position.has(one_end(end=newest.time - WINDOW_MS))
    assert position.has(one_end(end=newest.time - WINDOW_MS - 1))


@pytest.mark.parametrize("step", [0, 1])
def test_a_position_is_bounded_and_hides_no_end_that_comes_next(step: int) -> None:
    ends = list(ends_of([job(f"j{number}", START + number * step) for number in range(3 * MAX_SEEN)], {}).values())
    position = WatchPosition(START)
    for end in ends:
        assert not position.has(end)
        position = position.after(end.digest, end.time, START / 1000 + 60)
    assert all(position.has(end) for end in ends)
    if step:
        assert len(position.seen) <= MAX_SEEN


def test_a_beginning_is_bounded_and_hides_no_end_that_comes_next() -> None:
    ends = list(ends_of([job(f"j{number}", START - number) for number in range(3 * MAX_SEEN)], {}).values())
    created = WatchPosition(START, has_begun=False)
    begun = created.begun(ends, START / 1000 + 1, None)
    assert len(begun.seen) == MAX_SEEN
    assert all(begun.has(end) for end in ends)
    assert not begun.has(one_end(job_id="next", end=START))
    assert not begun.has(one_end(job_id="behind", end=START - MAX_SEEN + 1))


def test_an_old_end_in_the_future_hides_no_other() -> None:
    future = one_end(job_id="future", end=START + 10 * WINDOW_MS)
    begun = WatchPosition(START, has_begun=False).begun([future], START / 1000 + 1, None)
    assert begun.has(future)
    assert not begun.has(one_end(end=START))


@pytest.mark.parametrize("position", [WatchPosition(START, {"a": 1}), WatchPosition(START, has_begun=False)])
def test_a_position_is_what_was_stored(position: WatchPosition) -> None:
    assert WatchPosition.from_json(json.loads(json.dumps(position.to_json()))) == position


@pytest.mark.parametrize("value", [None, 1, [], {}, {"since": "now", "seen": {}}, {"since": 1, "seen": {"a": "b"}}])
def test_anything_else_is_no_position(value: Any) -> None:
    assert WatchPosition.from_json(value) is None


class History:
    """A random history of a service, a triggerer and Airflow's database.

    Airflow stores an event together with the position; a crash loses all else.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.clock = START
        self.stored = json.dumps(WatchPosition(START).to_json())
        self.jobs: list[dict[str, Any]] = []
        self.expected: set[tuple[str, int]] = set()
        self.events: Counter[tuple[str, int]] = Counter()
        self.queue: list[JobEnd] = []
        self.known: dict[str, JobEnd] = {}
        self.memory = self.stored_position

    @property
    def stored_position(self) -> WatchPosition:
        position = WatchPosition.from_json(json.loads(self.stored))
        assert position is not None
        return position

    def end_jobs(self) -> None:
        for _ in range(self.random.choice([1, 1, 2, 5])):
            # The clock of the node may be behind; several may end at the same time, and ids come again.
            time = max(self.clock - self.random.choice([0, 0, 3, WINDOW_MS // 2]), START)
            name = f"j{self.random.randrange(20)}"
            if (name, time) not in self.expected:
                self.jobs.append(job(name, time))
                self.expected.add((name, time))
        self.random.shuffle(self.jobs)

    def poll(self) -> None:
        self.known = ends_of(self.jobs, self.known)
        self.memory = self.memory.merged(self.stored_position)
        for end in self.known.values():
            if not self.memory.has(end):
                self.queue.append(end)
                self.memory = self.memory.after(end.digest, end.time, self.clock / 1000)

    def store(self) -> None:
        for _ in range(self.random.randrange(len(self.queue) + 1)):
            self.store_one()

    def store_one(self) -> None:
        end = self.queue.pop(0)
        self.events[end.job["submission_id"], end.time] += 1
        self.stored = json.dumps(self.stored_position.after(end.digest, end.time, self.clock / 1000).to_json())

    def crash(self) -> None:
        self.queue, self.known = [], {}
        self.memory = self.stored_position

    def restart_the_head(self) -> None:
        """Forget jobs, but none whose event is not stored yet: that one is lost, whoever watches."""
        self.jobs = [each for each in self.jobs if not self.events[each["submission_id"], each["end_time"]]]

    def play(self) -> None:
        steps = [self.end_jobs, self.poll, self.store, self.crash, self.restart_the_head]
        for _ in range(self.random.randrange(10, 60)):
            self.clock += self.random.choice([0, 0, 1, 40, 4_000, WINDOW_MS // 3])
            self.random.choices(steps, [5, 6, 5, 1, 1])[0]()
        self.poll()
        while self.queue:
            self.store_one()
        self.crash()
        self.poll()
        assert self.queue == []


def test_each_end_is_one_event_in_random_histories() -> None:
    total = 0
    for seed in seeds(by_level(2_000, 50_000)):
        history = History(seed)
        history.play()
        assert history.events == Counter(history.expected), seeded(seed)
        total += len(history.expected)
    assert total > 10_000


def test_an_event_has_what_a_dag_needs_and_no_secret() -> None:
    secret, masked = "c0nnection-s3cret", "j0b-s3cret"
    end = one_end(
        status="FAILED",
        message=f"Job failed: {secret} {masked} \x1b[2J" + "x" * 5_000,
        error_type=None,
        entrypoint=f"python train.py --token={masked}",
        metadata={"team": "vision", "note": f"{secret}\0", MASKED_ENV_VARS: '["TOKEN"]'},
        runtime_env={"env_vars": {"TOKEN": masked, "OTHER": "visible"}},
    )
    event = event_of(end, "abc", "ray", Redactor([secret]))
    text = json.dumps(event)
    assert secret not in text
    assert masked not in text
    assert "runtime_env" not in text
    assert "\\u001b" not in text
    assert len(str(event["message"])) < MAX_MESSAGE + 100
    assert event["metadata"] == {"team": "vision", "note": "***\ufffd"}
    facts = {name: event[name] for name in ("job_id", "status", "start_time", "end_time", "duration")}
    assert facts == {
        "job_id": "train-1",
        "status": "FAILED",
        "start_time": START,
        "end_time": START + 1_000,
        "duration": 1.0,
    }
    assert event["rayagent_conn_id"] == "ray"
    assert mark_of(event) == ("abc", end.digest, end.time)


@pytest.mark.parametrize("payload", [None, "text", {}, {"event_id": "other-1-2", "end_time": 1}, {"event_id": 3}])
def test_events_of_others_have_no_mark(payload: Any) -> None:
    assert mark_of(payload) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": ""},
        {"name": 3},
        {"name": "a\nb"},
        {"metadata": ["team"]},
        {"metadata": "team"},
        {"metadata": '["team"]'},
        {"metadata": {1: "a"}},
        {"metadata": {"team": {"a": 1}}},
        {"metadata": {"team": object()}},
        {"metadata": {"team": None}},
        {"metadata": {"epoch": True}},
        {"metadata": '{"epoch": 3.0}'},
        {"statuses": "FAILED"},
        {"statuses": []},
        {"statuses": ["RUNNING"]},
        {"statuses": ["failed"]},
    ],
)
def test_invalid_filters_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(RayAgentInputError):
        validated_filter(**{"name": None, "metadata": None, "statuses": None, **arguments})


def test_a_number_in_the_metadata_which_would_never_match_is_refused_by_name() -> None:
    with pytest.raises(RayAgentInputError, match=r"metadata\['epoch'\] must be a string, as in Ray, .* not 3\."):
        validated_filter(None, {"team": "vision", "epoch": 3}, None)
    assert validated_filter(None, {"epoch": "3"}, None).matches(job(metadata={"epoch": "3"}))


def test_the_position_of_a_watcher_is_that_of_what_it_watches() -> None:
    watched = validated_filter("a*", {"x": "1", "y": "2"}, ["FAILED", "STOPPED"])
    same = validated_filter("a*", {"y": "2", "x": "1"}, ("STOPPED", "FAILED"))
    assert watch_id_of("ray", watched) == watch_id_of("ray", same)
    others = [validated_filter("b*", None, None), validated_filter(None, None, FINAL_STATUSES)]
    assert len({watch_id_of("ray", each) for each in (watched, *others)} | {watch_id_of("other", watched)}) == 4
