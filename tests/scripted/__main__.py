"""``python -m tests.scripted NAME``: serve a scenario until interrupted, and tell every request."""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.scripted.job import Job
from tests.scripted.scenarios import SCENARIOS
from tests.scripted.server import ScriptedAgent

if TYPE_CHECKING:
    from tests.scripted.link import Request


def told(request: Request) -> str:
    """Return one line about a request: at its head, and at its end."""
    name = f"#{request.connection} {request.route}"
    if request.ended is None:
        return f"-> {name}"
    took = request.ended - request.time
    status = request.status if request.status is not None else "no answer"
    return f"<- {name}: {status}, {request.messages} messages, {request.sent} bytes, {took:.2f} s"


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    :return: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.scripted", description=__doc__)
    parser.add_argument("scenario", nargs="?", choices=sorted(SCENARIOS), metavar="NAME", help="see --list")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--token", help="demand this in the Authorization header")
    parser.add_argument("--service", choices=("agent", "ray"), default="agent", help="whose requests it takes")
    parser.add_argument("--base-path", default="/", help="path of the base URL")
    parser.add_argument("--text", type=Path, help="serve this file as the log of a job that is over, job id 'file'")
    parser.add_argument("--for", type=float, dest="seconds", help="end after so many seconds")
    options = parser.parse_args(arguments)
    if options.list or options.scenario is None:
        for name, known in SCENARIOS.items():
            print(f"{name:16} {known.told}")
        return 0
    scenario = SCENARIOS[options.scenario]
    jobs = [scenario.job()]
    if options.text is not None:
        jobs.append(Job(options.text.read_text(encoding="utf-8", errors="replace"), job_id="file"))
    began = time.monotonic()
    agent = ScriptedAgent(
        *jobs,
        answers=scenario.answers,
        token=options.token,
        service=options.service,
        base_path=options.base_path,
        port=options.port,
    )
    agent.on_request = lambda request: print(f"{time.monotonic() - began:8.2f} {told(request)}", flush=True)
    with agent:
        print(f"{scenario.told}\n{agent.url} serves {', '.join(f'job {name}' for name in agent.jobs)}", flush=True)
        try:
            threading.Event().wait(options.seconds)
        except KeyboardInterrupt:
            print()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
