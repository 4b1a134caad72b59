"""An agent that plays any history of an agent on cue, on a real socket, and counts what its clients do.

It serves its jobs well unless a script says otherwise, so a test states only the fault that it is about::

    from tests.scripted import Complete, DEFAULT, Follow, Job, Log, Play, Refuse, Reset, ScriptedAgent

    job = Job("one\\ntwo\\nthree\\n", ws=[Play(Follow(stop=6), Reset()), Refuse(503), DEFAULT])
    with ScriptedAgent(job) as agent:
        follow(agent.url, "j1")                    # the client under test
        assert [r.status for r in agent.of("WS")] == [101, 503, 101]
        assert agent.max_open_streams["j1"] == 1

A job may change by itself (``timeline``), on the test's cue (``job.grow``, ``job.set_status``, or ``WaitFor`` an
event in a play), or as a connection comes to it. Any route takes a script, and the whole agent can go away::

    job = Job(status="RUNNING", timeline=[Grow("a\\n"), Sleep(1), SetStatus("SUCCEEDED"), Sleep(2), Grow("b\\n")])
    answers = {"GET jobs/j1/": [Refuse(503, headers={"Retry-After": "1"}), Html(502), DEFAULT]}
    with ScriptedAgent(job, answers=answers, token="secret") as agent:
        agent.down(2.0, others="restart")

Scripts are sequences: the n-th request of a route meets the n-th step, the last step repeats. A step is a
:class:`Play`, one action, :data:`DEFAULT`, or a function of the request that returns one of these. Three scripts
are a job's own: ``ws``, ``sse`` and ``full`` (the full text). An error in a script is raised when the agent ends.

``ScriptedAgent(service="ray")`` takes the requests of Ray's own dashboard instead (:mod:`ray_dialect`), with the same
scripts, keyed by the agent's routes.
"""

from __future__ import annotations

from tests.scripted.actions import (
    DEFAULT,
    Close,
    Do,
    Down,
    Drop,
    Follow,
    FullText,
    Grow,
    Hold,
    Play,
    Repeat,
    Reset,
    Rewrite,
    SetStatus,
    Silence,
    Sleep,
    Step,
    StopReading,
    WaitFor,
    WaitForStream,
)
from tests.scripted.answers import Answer, Html, Redirect, Refuse
from tests.scripted.chunks import (
    at_cuts,
    at_random,
    by_lines,
    byte_cuts,
    every,
    lines_without_newline,
    with_surrogates,
)
from tests.scripted.exchange import Action, Open
from tests.scripted.job import Application, Job
from tests.scripted.link import Request
from tests.scripted.messages import (
    Binary,
    Bulk,
    Complete,
    Compressed,
    ErrorEvent,
    Event,
    Fragmented,
    Frame,
    Log,
    Partial,
    Ping,
    Raw,
    Sse,
    Text,
    Wire,
)
from tests.scripted.server import ScriptedAgent

__all__ = [
    "DEFAULT",
    "Action",
    "Answer",
    "Application",
    "Binary",
    "Bulk",
    "Close",
    "Complete",
    "Compressed",
    "Do",
    "Down",
    "Drop",
    "ErrorEvent",
    "Event",
    "Follow",
    "Fragmented",
    "Frame",
    "FullText",
    "Grow",
    "Hold",
    "Html",
    "Job",
    "Log",
    "Open",
    "Partial",
    "Ping",
    "Play",
    "Raw",
    "Redirect",
    "Refuse",
    "Repeat",
    "Request",
    "Reset",
    "Rewrite",
    "ScriptedAgent",
    "SetStatus",
    "Silence",
    "Sleep",
    "Sse",
    "Step",
    "StopReading",
    "Text",
    "WaitFor",
    "WaitForStream",
    "Wire",
    "at_cuts",
    "at_random",
    "by_lines",
    "byte_cuts",
    "every",
    "lines_without_newline",
    "with_surrogates",
]
