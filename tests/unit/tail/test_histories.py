"""The tail in simulated worlds: it yields every line once, in order and unchanged, and ends in time."""

from __future__ import annotations

import multiprocessing
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

from hypothesis import given

from airflow_provider_rayagent.tail import draining
from tests.level import FIRST_SEED, by_level, seeded, seeds
from tests.tail.figures import figure
from tests.unit.tail.history import History, draw_history, histories
from tests.unit.tail.verdict import complaint, complaint_about_rewriting
from tests.unit.tail.world import World

HISTORIES = by_level(5_000, 100_000)
BATCH = 2_500
REWRITTEN = by_level(1_000, 5_000)
WITHOUT_TEXT = by_level(1_000, 5_000)
KNOWN_SEEDS: tuple[int, ...] = ()
"""Seeds of any test here that once failed."""
LONGEST_SEARCH_FOR_THE_END = 180.0
"""Seconds after the job's end for which the tail tries the whole log, and then streams, before it gives up."""


def play(batch: list[int]) -> tuple[int, str]:
    """Play histories. Return the number of steps, and a description of the first failure."""
    steps = 0
    for seed in batch:
        history = draw_history(random.Random(seed))
        world = World(history)
        try:
            wrong = complaint(world.run())
        except Exception as error:  # noqa: BLE001 - told with its seed
            wrong = f"{type(error).__name__}: {error}"
        steps += world.steps
        if wrong:
            return steps, f"{seeded(seed)}: {wrong}\n{history}"
    return steps, ""


@given(histories())
def test_every_history_yields_every_line_once_in_order_and_ends_in_time(history: History) -> None:
    assert complaint(World(history).run()) == ""


def test_many_random_histories_yield_every_line_once_in_order_and_end_in_time() -> None:
    began = time.monotonic()
    every = seeds(HISTORIES, KNOWN_SEEDS)
    batches = [every[start : start + BATCH] for start in range(0, len(every), BATCH)]
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        outcomes = list(pool.map(play, batches))
    assert [wrong for _, wrong in outcomes if wrong] == []
    steps = sum(steps for steps, _ in outcomes)
    figure(
        f"histories through the pure core: {HISTORIES:,} from seed {FIRST_SEED} on ({steps:,} steps) in "
        f"{time.monotonic() - began:.0f} s"
    )


def test_a_rewritten_log_is_reported_once_and_the_new_text_is_forwarded() -> None:
    for seed in seeds(REWRITTEN, KNOWN_SEEDS):
        dice = random.Random(seed)
        history = draw_history(dice)
        text = "".join(dice.choices("ab \n", k=dice.randint(0, 60)))
        history = replace(
            history,
            text=f"\u00a7{history.text.removeprefix(chr(0xA7))}",
            rewritten=f"\u00b6{text}",
            chunks=dice.choice(("ray", "lines")) if history.chunks == "cut" else history.chunks,
            growth="steady",
            duration=dice.choice((3.0, 20.0)),
            late=0.0,
            junk=0.0,
            from_now=0.0,
            text_fails=0.0,
            text_cut=0.0,
        )
        assert complaint_about_rewriting(World(history).run()) == "", f"{seeded(seed)}: {history}"


def test_without_the_whole_log_the_streams_yield_every_line_or_the_loss_is_reported() -> None:
    whole = 0
    for seed in seeds(WITHOUT_TEXT, KNOWN_SEEDS):
        history = replace(draw_history(random.Random(seed)), text_gone=True, junk=0.0, from_now=0.0, chunks="lines")
        world = World(history).run()
        # A tail that takes over has a minute of its own.
        longest = LONGEST_SEARCH_FOR_THE_END + world.restarts * draining.FAILING_SECONDS
        assert world.now < history.duration + history.poll_interval + longest, seeded(seed)
        said = [notice.text for notice in world.notices if "Could not read the end of the job's log" in notice.text]
        assert bool(said) is not world.tail.log_is_whole, seeded(seed)
        # One blank line, sent as an empty message, cannot be told from no line.
        if world.tail.log_is_whole and not (history.completes or history.restarts or history.text == "\n"):
            whole += 1
            assert complaint(world) == "", seeded(seed)
    # Enough to check something; the share differs between seeds, which are new ones in the full check.
    assert whole > WITHOUT_TEXT / by_level(50, 100)
