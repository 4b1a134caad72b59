"""Long logs of which only the last lines are read: every line once, in order, and few requests for the whole log."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest

from airflow_provider_rayagent.tail import cursor, last_lines
from airflow_provider_rayagent.tail.cursor import Cursor, Replay
from airflow_provider_rayagent.tail.items import LogRewritten
from airflow_provider_rayagent.tail.last_lines import LastLines, LastLinesPolicy
from tests.tail.figures import IN_CI
from tests.unit.tail import world as worlds
from tests.unit.tail.history import History, draw_history
from tests.unit.tail.verdict import complaint, complaint_about_rewriting
from tests.unit.tail.world import World

LETTERS = "ab é😀\r"
MUCH = 10_000_000
HISTORIES = 2_000 if IN_CI else 500


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a log long soon, and let it grow at many moments."""
    monkeypatch.setattr(last_lines, "MIN_LOG_CHARS", 20)
    monkeypatch.setattr(last_lines, "MIN_LINES", 4)
    monkeypatch.setattr(last_lines, "MAX_LINES", 40)
    monkeypatch.setattr(last_lines, "MAX_CHARS", 300)
    monkeypatch.setattr(cursor, "KNOWN_CHARS", 24)
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
    for seed in range(HISTORIES):
        history = drawn(seed)
        world = World(history, last_lines=True)
        assert complaint(world.run()) == "", f"seed {seed}: {history}"
        assert not any(isinstance(notice, LogRewritten) for notice in world.notices), f"seed {seed}: {history}"
        kinds.update(kind for _, kind in world.requests)
    assert kinds["last lines"] > kinds["text"] / 4


@pytest.mark.usefixtures("_small")
def test_a_rewritten_log_is_noticed_at_the_latest_after_the_jobs_end() -> None:
    for seed in range(HISTORIES // 6):
        history = drawn(seed)
        rewritten = "".join(f"new {number}\n" for number in range(seed % 50))
        history = replace(history, text=f"\u00a7{history.text}", rewritten=f"\u00b6{rewritten}", late=0.0, text_cut=0.0)
        history = replace(history, text_fails=0.0, growth="steady", duration=20.0)
        assert complaint_about_rewriting(World(history, last_lines=True).run()) == "", f"seed {seed}: {history}"


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


def test_what_was_logged_before_the_first_reading_does_not_count_as_growth() -> None:
    policy, position = LastLinesPolicy(), Cursor()
    replay = Replay(position)
    replay.advance("x\n" * last_lines.MIN_LOG_CHARS, last_lines.MIN_LOG_CHARS)
    policy.read(replay, position.lines, was_whole=True)
    assert policy.next(position) is not None
    # From the second reading on it does, and nothing that may be missed is left out.
    policy.read(replay, last_lines.MAX_LINES, was_whole=True)
    assert policy.next(position) is None
    policy.read(replay, 1, was_whole=True)
    assert policy.next(position) is not None
    assert policy.next(Cursor()) is None


def test_the_position_has_to_be_there_exactly_once() -> None:
    def new_text(known: str, *parts: str) -> str | None:
        found = LastLines(known)
        assert all(found.feed(part) for part in parts)
        return found.new_text()

    assert new_text("b\nc\n", "a\nb\n", "c\nd", "e") == "de"
    assert new_text("c\n", "b\nc\n") == ""
    assert new_text("x\n", "b\nc\n") is None
    assert new_text("b\n", "b\nb\nc") is None
    # The second place overlaps the first.
    assert new_text("aa", "aaa") is None
