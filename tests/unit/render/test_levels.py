"""The level of a line, where the line itself tells it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_rayagent.render.levels import MAX_BLOCKS, LevelFinder
from airflow_provider_rayagent.tail.lines import LineAssembler
from tests.tail.figures import figure

LONG = 16_000
LEVELS = {
    "-": None,
    "D": logging.DEBUG,
    "I": logging.INFO,
    "W": logging.WARNING,
    "E": logging.ERROR,
    "C": logging.CRITICAL,
}
"""By the letter that stands for it here and in ``corpus/``; ``-`` where nothing tells a level."""
LETTERS = {level: letter for letter, level in LEVELS.items()}
LOGS = sorted((Path(__file__).parent / "corpus").glob("*.txt"))
"""Logs of real jobs on a real Ray, each line with the letter of its level; see README.md there."""
LEAST_DISTINCT = 1_000
LEAST_RECALL = 0.96


def letters(*lines: str) -> str:
    levels = LevelFinder()
    return "".join(LETTERS[levels.level_of(line)] for line in lines)


@pytest.mark.parametrize(
    ("letter", "line"),
    [
        ("W", "WARNING:root:disk is full"),
        ("E", "2026-11-25 12:00:00,123 ERROR shop.orders: boom"),
        ("E", "2026-11-25 12:00:00,123 - shop.orders - ERROR - boom"),
        ("I", "2026-11-25 12:00:00,123\tINFO worker.py:1691 -- Connected to Ray cluster."),
        ("E", "[2026-11-25 12:00:00,123 E 123 456] (raylet) node_manager.cc:12: boom"),
        ("C", "[2026-11-25 12:00:00,123 C 123 456] core_worker.cc:12: boom"),
        ("E", "[2026-11-25 12:00:00 +0000] [12] [ERROR] boom"),
        ("W", "[2026-11-25 12:00:00,123] {file.py:12} WARNING - slow"),
        ("W", "2026-11-25 12:00:00.123 | WARNING  | mod:f:12 - slow"),
        ("E", "2026-11-25T12:00:00Z [error    ] boom key=1"),
        ("E", "ERROR 07-03 14:43:50 worker_base.py:148] boom"),
        ("I", "INFO 2026-11-25 12:00:00,123 controller 12 -- Deploying"),
        ("W", "26/11/25 12:00:00 WARN NativeCodeLoader: slow"),
        ("E", "12:00:00.123 [main] ERROR com.foo.Bar - boom"),
        ("E", "[2026-11-25T12:00:00Z ERROR my_crate::x] boom"),
        ("E", "E1124 12:34:56.123456  123 file.cc:12] boom"),
        ("W", "[rank0]:[W1124 00:12:34.567890123 ProcessGroupNCCL.cpp:1234] Warning: slow"),
        ("E", "E0000 00:00:1732492800.123456    1234 cuda_dnn.cc:8310] boom"),
        ("W", "[W reducer.cpp:1300] Warning: slow"),
        ("W", "2026-11-25 12:34:56.123456: W tensorflow/core/gpu_device.cc:2343] slow"),
        ("W", "host-1:1171:2276 [0] NCCL WARN no such segment"),
        ("I", 'INFO:     127.0.0.1:57378 - "GET /errors HTTP/1.1" 500'),
        ("E", "ERROR:    Exception in ASGI application"),
        ("C", "[CRITICAL] giving up"),
        ("C", "FATAL: out of memory"),
        ("E", '{"levelname": "ERROR", "message": "boom"}'),
        ("E", '{"severity": "error", "msg": "boom"}'),
        ("W", '{"log.level": "warn", "message": "slow"}'),
        ("E", '{"text": "boom", "record": {"level": {"name": "ERROR", "no": 40}}}'),
        ("W", "/lib/model.py:12: UserWarning: slow"),
        ("W", "\x1b[36m(f pid=123)\x1b[0m WARNING:root:slow"),
        ("W", "(MapWorker(MapBatches(f)->Write) pid=123, ip=10.0.0.1) WARNING:root:slow"),
        ("W", "(EngineCore pid=1) (Worker pid=2) WARNING:root:slow"),
        ("E", "\x1b[33m(autoscaler +11s)\x1b[0m Error: No available node types can fulfill {'CPU': 64.0}."),
        ("E", "\x1b[31mERROR\x1b[0m:root:boom"),
        ("W", "  50%|█████     | 2/4 [00:00<00:00, 64.4it/s]WARNING:root:in the middle of a bar"),
        ("E", "*** SIGSEGV received at time=1795578469 on cpu 0 ***"),
        ("-", "error rate: 0.01"),
        ("-", "ERRORS: 0"),
        ("-", "no errors found"),
        ("-", "ERROR: 0"),
        ("-", "ERROR: none"),
        ("-", "ERROR rate is 0.3 %"),
        ("-", "CRITICAL path: a, b, c"),
        ("-", "2026-11-25 03:00:00 the run had ERROR 7 in it"),
        ("-", "2026-11-25T03:00:00Z,ERROR,7"),
        ("-", "orders,ERROR,3"),
        ("-", "| ERROR    | 3 |"),
        ("-", '{"level": "ERROR", "score": 3}'),
        ("-", '{"level": "expert", "message": "won"}'),
        ("-", '{"level": 40, "message": "on whose scale?"}'),
        ("-", '{"level": "ERROR", "message": "cut'),
        ("-", "level=error is the setting"),
        ("-", "E = mc^2"),
        ("-", "ValueError: is what int() raises"),
        ("-", "the Traceback (most recent call last): is what Python prints"),
        ("-", '  File "b.txt", line 4, is an indented print'),
        ("-", ""),
    ],
)
def test_a_line_has_the_level_that_it_tells_and_no_other(letter: str, line: str) -> None:
    assert letters(line) == letter


# What each line has, and the lines.
BLOCKS: list[tuple[str, list[str]]] = [
    (
        "EEEEE-EEEEE--",
        [
            "Traceback (most recent call last):",
            '  File "a.py", line 1, in f',
            "    g()",
            "    ^^^",
            "KeyError: 'x'",
            "",
            "During handling of the above exception, another exception occurred:",
            "",
            "Traceback (most recent call last):",
            "  [Previous line repeated 996 more times]",
            "my.pkg.Odd",
            "done",
            "  an indented print",
        ],
    ),
    (
        "EEEEE-",
        [
            "ray.exceptions.RayTaskError(ValueError): \x1b[36mray::f()\x1b[39m (pid=1, ip=10.0.0.1)",
            '  File "a.py", line 1, in f',
            "ray.exceptions.RayTaskError(ValueError): \x1b[36mray::g()\x1b[39m (pid=2, ip=10.0.0.1)",
            '  File "a.py", line 2, in g',
            "ValueError: boom",
            "a print",
        ],
    ),
    # Processes whose lines alternate have blocks of their own.
    (
        "E-E--E-",
        [
            "(f pid=1) Traceback (most recent call last):",
            "(g pid=2) hello",
            '(f pid=1)   File "a.py", line 1, in f',
            "    an indented print of the driver",
            "(g pid=2)     an indented print",
            "(f pid=1) ValueError: boom\x1b[32m [repeated 2x across cluster]\x1b[0m",
            "(f pid=1) hello",
        ],
    ),
    # The first line of a traceback was held back: it is known after an error.
    (
        "EEE-",
        ["(f pid=1) ERROR:root:a", '(f pid=1)   File "a.py", line 1, in f', "(f pid=1) KeyError: x", "(f pid=1) b"],
    ),
    ("-", ['(f pid=1)   File "a.py", line 1, in f']),
    # A record continues in indented lines only after an opening.
    ("WW-", ["WARNING:root:two lines:", "  the second", "print"]),
    ("W-", ["WARNING:root:one line", "  an indented print"]),
    ("I-", ["INFO:root:one:", "  two"]),
    # A warning is followed by one line of source.
    ("WW-", ["a.py:1: UserWarning: slow", "  warnings.warn('slow')", "  a print"]),
    ("EEE-", LineAssembler(15).feed("ERROR:root:xxxxxxxxxxxxxxxxxxxxxxxxxxxx\nnext\n")[0]),
    ("E-", ["ERROR:root:x", "[continued] a line that looks like a piece of one"]),
]


@pytest.mark.parametrize(("expected", "lines"), BLOCKS)
def test_the_lines_of_a_block_have_its_level_and_the_next_has_none(expected: str, lines: list[str]) -> None:
    assert letters(*lines) == expected


def test_tracebacks_that_never_end_are_forgotten_when_there_are_too_many() -> None:
    levels = LevelFinder()
    for pid in range(10 * MAX_BLOCKS):
        levels.level_of(f"(f pid={pid}) Traceback (most recent call last):")
    assert len(levels._blocks) <= MAX_BLOCKS


HOSTILE = {
    "brackets": "[" * LONG,
    "process": "(" + "a pid=" * LONG,
    "processes": "(pid=1) " * LONG,
    "repeated": "(pid=1) " + " [repeated " * LONG + "]",
    "frames": "ray::() (pid=" * LONG,
    "sequences": "\x1b[1;" * LONG,
    "links": "\x1b]8;;" * LONG,
    "fields": "2026-11-25 12:00:00,123 " + "[a] " * LONG,
    "dashes": "2026-11-25 12:00:00,123" + " - a" * LONG,
    "dots": "2026-11-25 12:00:00,123 " + "a." * LONG,
    "json": '{"level":' + "[" * LONG,
    "warning": "a:1: " * LONG + "Warning: ",
    "rich": " " * 20 + "ERROR    " + "a:1 " * LONG,
    "bar": "1%|" * LONG,
    "bars": " 1%|" + "|" * LONG,
    "exception": "A." * LONG,
    "spaces": "ERROR:" + " " * LONG,
    "nccl": "a:1:1 NCCL " * LONG,
    "hostile blanks": " \t" * LONG + "x",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_line_costs_no_more_than_its_length(text: str) -> None:
    def seconds(length: int) -> float:
        line, levels = text[:length], LevelFinder()
        started = time.thread_time()
        for each in (line, "Traceback (most recent call last):", line):
            levels.level_of(each)
        return time.thread_time() - started

    # Alternately, since the speed of a busy machine changes.
    short, long = zip(*((seconds(LONG // 4), seconds(LONG)) for _ in range(7)), strict=True)
    assert min(long) < 12 * min(short) + 0.001


@given(st.lists(st.text(st.characters(), max_size=40), max_size=12))
def test_any_text_is_read_and_gets_a_known_level_or_none(lines: list[str]) -> None:
    levels = LevelFinder()
    assert all(levels.level_of(line) in LETTERS for line in lines)


@given(st.text('ERROWANIG:[]()0123456789 -|,.{}"pid=', max_size=60))
def test_a_prefix_of_a_process_or_colors_change_no_level(line: str) -> None:
    plain = LevelFinder().level_of(line)
    if not line.startswith("(") and plain is not None:
        assert LevelFinder().level_of(f"(f pid=1) {line}") == plain
        assert LevelFinder().level_of(f"\x1b[31m{line}\x1b[0m") == plain


def test_in_the_logs_of_real_jobs_no_level_is_wrong_and_few_are_missed() -> None:
    wrong: list[str] = []
    count: Counter[str] = Counter()
    distinct = set()
    for path in LOGS:
        levels = LevelFinder()
        for number, entry in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
            line = entry[2:]
            true, found = LEVELS[entry[0]], levels.level_of(line)
            distinct.add(line)
            count["lines"] += 1
            if (true or logging.INFO) != logging.INFO:
                count["marked"] += 1
                count["found"] += found == true
            if found is not None and found != (true or logging.INFO):
                wrong.append(f"{path.name}:{number}: {logging.getLevelName(found)}: {line}")
    recall = count["found"] / count["marked"]
    figure(
        f"levels in {count['lines']:,} lines ({len(distinct):,} different) of real jobs: {len(wrong)} wrong; "
        f"of {count['marked']:,} that are not INFO {recall:.1%} found"
    )
    assert wrong == []
    assert len(distinct) >= LEAST_DISTINCT
    assert recall >= LEAST_RECALL
