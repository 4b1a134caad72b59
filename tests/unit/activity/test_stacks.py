"""The stacks that py-spy prints."""

from __future__ import annotations

from airflow_provider_rayagent.activity.stacks import MAX_FRAMES, shown_stack
from airflow_provider_rayagent.text.redaction import Redactor

# From Ray 2.60.
DUMP = """\
Process 22401: ray::A.call
Python v3.11.7 (/usr/bin/python3.11)

Thread 22401 (idle): "MainThread"
    Worker.get_objects (ray/_private/worker.py:1007)
    get (ray/_private/worker.py:3009)
    A.call (actors.py:7)
    _resume_span (ray/util/tracing/tracing_helper.py:487)
    actor_method_executor (ray/_private/function_manager.py:740)
    Worker.main_loop (ray/_private/worker.py:1069)
    <module> (ray/_private/workers/default_worker.py:323)
Thread 22548 (idle): "PythonGCThread"
    Condition.wait (threading.py:327)
Thread 22589 (idle): "ray_listen_error_messages"
    listen_error_messages (ray/_private/worker.py:2472)
Thread 23065 (idle): "AsyncIO Thread: default"
    Thread.run (threading.py:982)
Thread 23066 (idle)
    native (c.py:1)
Thread 23067 (active+gil): "loader"
    read (loader.py:3)
"""


def test_the_frames_of_the_program_are_shown() -> None:
    assert shown_stack(DUMP, str) == [
        "Worker.get_objects (ray/_private/worker.py:1007)",
        "get (ray/_private/worker.py:3009)",
        "A.call (actors.py:7)",
        "_resume_span (ray/util/tracing/tracing_helper.py:487)",
        "native (c.py:1)",
        "in the thread loader:",
        "read (loader.py:3)",
    ]


def test_a_process_that_is_in_none_of_its_own_frames_has_no_stack() -> None:
    assert shown_stack(DUMP.partition("    Worker.get_objects")[0], str) == []
    assert shown_stack("", str) == []
    assert shown_stack("<html>Bad gateway</html>", str) == []


def test_a_stack_is_bounded_masked_and_one_line_per_frame() -> None:
    frames = "".join(f"    hunter2-secret{number} (\x1b[2Jf.py:{number})\n" for number in range(1_000))
    shown = shown_stack(f'Thread 1 (idle): "MainThread"\n{frames}', Redactor(["hunter2-secret"]))
    assert len(shown) == MAX_FRAMES
    assert shown[0] == "***0 (\\x1b[2Jf.py:0)"


def test_a_line_that_repeats_much_is_read_at_once() -> None:
    assert shown_stack("Thread 1 (" + "idle) (" * 30_000 + "\n" + 'Thread 1 (idle): "' + '"' * 100_000, str) == []
