"""Long logs of which only the last lines are read: every line once, in order, and few requests for the whole log."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from airflow_provider_rayagent.tail import cursor, last_lines
from airflow_provider_rayagent.tail.cursor import KNOWN_CHARS, Cursor, Replay
from airflow_provider_rayagent.tail.items import LogRewritten
from airflow_provider_rayagent.tail.last_lines import LastLines, LastLinesPolicy
from tests.level import by_level, seeded, seeds
from tests.unit.tail import world as worlds
from tests.unit.tail.history import History, draw_history
from tests.unit.tail.verdict import complaint, complaint_about_rewriting
from tests.unit.tail.world import World

LETTERS = "ab é😀\r"
MUCH = 10_000_000
HISTORIES = by_level(500, 2_000)
REPEATING = by_level(100, 400)
KNOWN_SEEDS: tuple[int, ...] = ()
"""Seeds of any test here that once failed."""


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a log long soon, and let it grow at many moments."""
    monkeypatch.setattr(last_lines, "MIN_LOG_CHARS", 20)
    monkeypatch.setattr(last_lines, "MIN_LINES", 4)
    monkeypatch.setattr(last_lines, "MAX_LINES", 80)
    monkeypatch.setattr(last_lines, "MAX_CHARS", 600)
    monkeypatch.setattr(cursor, "KNOWN_CHARS", 24)
    monkeypatch.setattr(cursor, "RECENT_CHARS", 120)
    monkeypatch.setattr(worlds, "_stages", many_stages)


def many_stages(history: History) -> list[tuple[float, int]]:
    dice, length = random.Random(history.seed), len(history.text)
    moments = sorted(dice.uniform(0, history.duration) for _ in range(40))
    lengths = sorted(dice.randint(0, length) for _ in range(40))
    return [*zip(moments, lengths, strict=True), (history.duration + history.late, length)]


def drawn(seed: int) -> History:
    """Draw a history without streams; the numbers of the lines make the known characters unique."""
    dice = random.Random(seed)
    words = ["".join(dice.choices(LETTERS, k=dice.choice((0, 3, 60)))) for _ in range(dice.randint(0, 90))]
    lines = [f"{number} {word}" for number, word in enumerate(words)]
    text = "\n".join(lines) + dice.choice(("", "\n"))
    return replace(
        draw_history(dice), text=text, sources=(), duration=dice.choice((10.0, 60.0)), text_piece=dice.choice((9, 99))
    )


@pytest.mark.usefixtures("_small")
def test_many_random_histories_yield_every_line_once_in_order() -> None:
    kinds: Counter[str] = Counter()
    for seed in seeds(HISTORIES, KNOWN_SEEDS):
        history = drawn(seed)
        world = World(history, last_lines=True)
        assert complaint(world.run()) == "", f"{seeded(seed)}: {history}"
        assert not any(isinstance(notice, LogRewritten) for notice in world.notices), f"{seeded(seed)}: {history}"
        kinds.update(kind for _, kind in world.requests)
    assert kinds["last lines"] > kinds["text"] / 4


class Repeating:
    """The log of a job that writes the same block again and again, always as fast, with quiet in between."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        letters = dice.choice(("ab", "abcdefgh"))
        lines = ["".join(dice.choices(letters, k=dice.randint(0, 4))) + "\n" for _ in range(dice.randint(3, 80))]
        span = dice.choice((0.0, 0.0, 1.0, 6.0))
        delays = sorted(dice.uniform(0, span) for _ in lines)
        self.text = "".join(f"{number}\n" for number in range(dice.randint(0, 30)))
        self.stages = [(0.0, len(self.text))]
        # By then, the log was read despite failures: the pace of what was logged before is not known.
        moment = 20.0
        for _ in range(dice.randint(2, 4)):
            for delay, line in zip(delays, lines, strict=True):
                self.text += line
                self.stages.append((moment + delay, len(self.text)))
            moment += span + dice.uniform(3, 20)
            if dice.random() < 0.2:
                self.text += "between\n"
                self.stages.append((moment - 1, len(self.text)))
        self.history = History(
            text=self.text,
            seed=seed,
            sources=(),
            duration=moment,
            poll_interval=1.0,
            text_piece=99,
            text_fails=dice.choice((0.0, 0.3)),
            text_cut=dice.choice((0.0, 0.1)),
        )


@pytest.mark.usefixtures("_small")
def test_a_job_that_repeats_a_block_yields_every_line_once_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: Counter[str] = Counter()
    for seed in seeds(REPEATING, KNOWN_SEEDS):
        repeating = Repeating(seed)
        with monkeypatch.context() as patched:
            patched.setattr(worlds, "_stages", lambda _, stages=repeating.stages: stages)
            world = World(repeating.history, last_lines=True).run()
        assert complaint(world) == "", f"{seeded(seed)}: {repeating.history}"
        assert world.notices == [], f"{seeded(seed)}: {repeating.history}"
        kinds.update(kind for _, kind in world.requests)
    assert kinds["last lines"] > kinds["text"] / 4


@pytest.mark.usefixtures("_small")
def test_a_rewritten_log_is_noticed_at_the_latest_after_the_jobs_end() -> None:
    for seed in seeds(HISTORIES // 6, KNOWN_SEEDS):
        history = drawn(seed)
        rewritten = "".join(f"new {number}\n" for number in range(seed % 50))
        history = replace(history, text=f"\u00a7{history.text}", rewritten=f"\u00b6{rewritten}", late=0.0, text_cut=0.0)
        history = replace(history, text_fails=0.0, growth="steady", duration=20.0)
        assert complaint_about_rewriting(World(history, last_lines=True).run()) == "", f"{seeded(seed)}: {history}"


@pytest.mark.parametrize("after", ["", "then\n" * 3])
@pytest.mark.parametrize("burst", [250, 1_000, 5_000])
def test_a_block_that_is_written_again_after_a_burst_hides_nothing(
    burst: int, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = "".join(f"| loss of layer {number:3} | 0.25 | 0.125 | 0.0625 | 0.03125 |\n" for number in range(90))
    assert len(table) > KNOWN_CHARS
    begin = "".join(f"line {number} of the beginning\n" for number in range(6_000)) + table
    lines = "".join(f"{number} of the burst\n" for number in range(burst)) + table + after
    end = [f"{number} of the end\n" for number in range(9)]
    stages = [(0.0, len(begin)), (30.0, len(begin + lines))]
    for number in range(len(end)):
        stages.append((31.0 + 2 * number, stages[-1][1] + len(end[number])))
    monkeypatch.setattr(worlds, "_stages", lambda _: stages)
    text = begin + lines + "".join(end)
    world = World(History(text=text, sources=(), duration=60.0, text_piece=MUCH), last_lines=True).run()
    assert complaint(world) == ""
    assert world.notices == []
    assert Counter(kind for _, kind in world.requests)["last lines"] > 10


@pytest.mark.parametrize("line", ["same\n", "\n", "a\nb\nc\n"])
def test_a_log_that_repeats_itself_is_read_as_a_whole(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "_stages", many_stages)
    history = History(text=line * 200_000, sources=(), duration=600.0, text_piece=MUCH)
    world = World(history, last_lines=True).run()
    assert complaint(world) == ""
    assert world.notices == []
    kinds = Counter(kind for _, kind in world.requests)
    # They are tried again now and then.
    assert 0 < kinds["last lines"] < kinds["text"] / 4


def test_a_quiet_job_with_a_long_log_costs_few_characters() -> None:
    text = "".join(f"line {number}\n" for number in range(30_000))
    history = History(text=text, sources=(), duration=900.0, growth="early", text_piece=MUCH)
    world = World(history, last_lines=True).run()
    assert complaint(world) == ""
    assert Counter(kind for _, kind in world.requests)["text"] <= 6


class Policy:
    """A policy with an interval of a second, the position in a long log, and a clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self._policy, self._position = LastLinesPolicy(1.0), Cursor()
        self._replay = Replay(self._position)

    def forward(self, new_lines: int, *, line: str = "\n") -> None:
        """Forward so many lines."""
        self._replay.advance(line * new_lines, new_lines)

    def read(self, new_lines: int, *, line: str = "\n") -> None:
        """Read the log to its end; so many lines are forwarded meanwhile."""
        self.forward(new_lines, line=line)
        self._policy.read(self.now, self._replay, self._position, was_whole=False)

    def requested(self) -> int | None:
        """Return how many lines are read next, without those of the known characters; ``None``: all."""
        found = self._policy.next(self.now, self._position)
        return found and found[1] - found[0].known.count("\n") - 1


@pytest.fixture
def policy() -> Policy:
    """Return a policy after the first reading."""
    policy = Policy()
    policy.read(1, line="x" * last_lines.MIN_LOG_CHARS + "\n")
    return policy


def test_what_was_logged_before_the_first_reading_does_not_count_as_growth() -> None:
    policy = Policy()
    assert policy.requested() is None
    policy.read(last_lines.MIN_LOG_CHARS)
    assert policy.requested() == last_lines.MAX_LINES
    # From the second reading on it does, and nothing that may be missed is left out.
    policy.read(last_lines.MAX_LINES)
    assert policy.requested() is None
    policy.read(1)
    assert policy.requested() == last_lines.MAX_LINES


def test_a_short_log_is_read_as_a_whole() -> None:
    policy = Policy()
    policy.read(1, line="x" * (last_lines.MIN_LOG_CHARS - 1))
    assert policy.requested() is None


@pytest.mark.parametrize(
    ("new_lines", "requested"),
    [
        # The pace before the first reading is not known.
        ([0], 3 * last_lines.MIN_LINES),
        ([500], 8 * 500),
        ([501], None),
        # It is remembered while the log is quiet, and forgotten when it is slower.
        ([500, 0], 3 * 500),
        ([500, 0, 0, 0, 0], 3 * 500),
        ([500, 1, 0, 1], 3 * 125),
        ([500, 1, 1, 1], last_lines.MIN_LINES),
        ([100_000, 0], last_lines.MAX_LINES),
    ],
)
def test_more_lines_are_read_than_the_log_is_likely_to_grow_by(
    policy: Policy, new_lines: list[int], requested: int | None
) -> None:
    for number in new_lines:
        policy.read(number)
    assert policy.requested() == requested


def test_lines_of_a_reading_that_broke_off_are_part_of_the_growth(policy: Policy) -> None:
    policy.forward(400)
    policy.read(100)
    assert policy.requested() == 8 * 500


@pytest.mark.parametrize(("gap", "requested"), [(1.9, 200), (2.0, 400), (20.5, 4_000), (21.0, None)])
def test_the_longer_the_log_was_not_read_the_more_lines_are_read(
    policy: Policy, gap: float, requested: int | None
) -> None:
    for _ in range(3):
        policy.read(1)
    policy.now = gap
    assert policy.requested() == requested


def test_the_position_has_to_be_there_exactly_once() -> None:
    def new_text(known: str, *parts: str) -> str | None:
        position = Cursor()
        replay = Replay(position)
        replay.advance(known, 0)
        found = LastLines(replay)
        assert all(found.feed(part) for part in parts)
        return found.new_text()

    assert new_text("b\nc\n", "a\nb\n", "c\nd", "e") == "de"
    assert new_text("c\n", "b\nc\n") == ""
    assert new_text("x\n", "b\nc\n") is None
    assert new_text("b\n", "b\nb\nc") is None
    # The second place overlaps the first.
    assert new_text("aa", "aaa") is None
    # What precedes it has to be there as well, as far as both are known.
    block = "x" * KNOWN_CHARS
    assert new_text(f"a\nb\n{block}", f"b\n{block}c") == "c"
    assert new_text(f"b\n{block}", f"a\nb\n{block}c") == "c"
    assert new_text(f"a\nb\n{block}", f"c\n{block}c") is None
