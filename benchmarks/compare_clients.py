"""Compare our hook with the agent's Python client for all faults of the log tail's fault table.

    RAYAGENT_CONTRACT_PYTHON=…/bin/python python -m benchmarks.compare_clients

prints how often each client was right, and writes what each did with each fault to ``results/client-comparison.csv``.
Requires an interpreter with ``synapse-sdk`` (the test environment contains one). The client's stream timeout of 30 s is
reduced to 3 s to save time. A client's items are interpreted in its favor: as chunks of text or as lines, whichever is
closer to the actual log.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from benchmarks.report import RESULTS as RESULTS_FOLDER
from tests.tail.drivers import PROTOCOLS, Outcome, hook_generator
from tests.tail.faults import FAULTS
from tests.tail.stage import play
from tests.unit.tail.history import lines_of

if TYPE_CHECKING:
    from airflow_provider_rayagent.connection.config import ServiceConfig
    from tests.tail.drivers import Driver
    from tests.tail.stage import Fault

CLIENT_DRIVER = Path(__file__).parents[1] / "tests" / "contract" / "driver.py"
METHODS = {"websocket": "websocket_tail_job_logs", "http": "stream_tail_job_logs", "auto": "tail_job_logs"}
CLIENT_TIMEOUT = 3
HANGS_AFTER = 30.0
LATE_AFTER = 10.0
PLAYED_AT_ONCE = 8
KINDS = ("right", "silently wrong", "raises", "hangs")
WHO = ("ours", "synapse_sdk")
COLUMNS = [f"{who}, {protocol}" for protocol in PROTOCOLS for who in WHO]
RESULTS = RESULTS_FOLDER / "client-comparison.csv"


class ReferenceClient:
    """The agent's Python client, in a separate interpreter for each thread."""

    def __init__(self, python: str) -> None:
        self._python = python
        self._local = threading.local()
        self._processes: list[subprocess.Popen[str]] = []

    def __call__(self, config: ServiceConfig, job_id: str, protocol: str) -> Outcome:
        request = {
            "method": METHODS[protocol],
            "args": [job_id],
            "kwargs": {"timeout": CLIENT_TIMEOUT},
            "client": {"base_url": config.base_url, "agent_token": "t"},
        }
        answer = self._ask(request)
        if answer is None:
            return Outcome(error=TimeoutError("hangs"))
        failed = answer.get("error")
        items = failed["items"] if failed else answer["value"]
        error = RuntimeError(failed["text"] or failed["names"][0]) if failed else None
        return Outcome(lines=items, error=error)

    def close(self) -> None:
        """Stop all interpreters."""
        for process in self._processes:
            process.kill()
            process.wait()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        process = self._process()
        timer = threading.Timer(HANGS_AFTER, process.kill)
        timer.start()
        try:
            if process.stdin is None or process.stdout is None:
                raise AssertionError
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        finally:
            timer.cancel()
        return json.loads(answer) if answer else None

    def _process(self) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] | None = getattr(self._local, "process", None)
        if process is None or process.poll() is not None:
            process = subprocess.Popen(
                [self._python, str(CLIENT_DRIVER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, "NO_PROXY": "*"},
            )
            self._local.process = process
            self._processes.append(process)
        return process


@dataclass(frozen=True)
class Verdict:
    """How a client handled a fault.

    :param kind: one of :data:`KINDS`.
    :param detail: lost and repeated lines, or how it ended.
    :param wrong_lines: number of lines that were lost or are not in the log.
    """

    kind: str
    detail: str = ""
    wrong_lines: int = 0

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}" if self.detail else self.kind


def judge(row: Fault, outcome: Outcome, got: list[str]) -> Verdict:
    """Return the verdict on the lines from a client."""
    if isinstance(outcome.error, TimeoutError):
        return Verdict("hangs")
    truth = [] if row.lost else [*row.before, *lines_of(outcome.truth, 8_000_000)]
    lost = sum((Counter(truth) - Counter(got)).values())
    extra = sum((Counter(got) - Counter(truth)).values())
    problems = [f"{lost} lost"] if lost else []
    problems += [f"{extra} repeated or foreign"] if extra else []
    if not problems and got != truth:
        problems.append("another order")
    if outcome.error is not None and not row.lost:
        return Verdict("raises", ", ".join(problems), lost + extra)
    if outcome.early:
        problems.append("ended before the job")
    elif outcome.late > LATE_AFTER:
        problems.append(f"{outcome.late:.0f} s late")
    return Verdict("silently wrong", ", ".join(problems), lost + extra) if problems else Verdict("right")


def ways_to_read(items: list[str]) -> list[list[str]]:
    """Return the possible interpretations of a client's items: chunks of text, or one line each."""
    return [lines_of("".join(items), 8_000_000), items]


def run_cell(name: str, driver: Driver, protocol: str, *, pieces: bool) -> Verdict:
    """Run one client with one fault."""
    outcome = play(FAULTS[name], driver, protocol)
    readings = ways_to_read(outcome.lines) if pieces else [outcome.lines]
    verdicts = [judge(FAULTS[name], outcome, lines) for lines in readings]
    return min(verdicts, key=lambda verdict: (KINDS.index(verdict.kind), verdict.wrong_lines))


def main() -> int:
    """Run all clients with all faults; print the counts, and store the verdicts."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--only", default="", help="run only faults with this text in their name, and store nothing")
    options = parser.parse_args()
    python = os.environ.get("RAYAGENT_CONTRACT_PYTHON", "")
    if not Path(python).is_file():
        parser.error("RAYAGENT_CONTRACT_PYTHON must be set to an interpreter with synapse-sdk.")
    reference = ReferenceClient(python)
    names = [name for name in FAULTS if options.only in name]
    drivers: dict[str, Driver] = {"ours": hook_generator, "synapse_sdk": reference}
    with ThreadPoolExecutor(PLAYED_AT_ONCE) as pool:
        futures = {
            name: [
                pool.submit(run_cell, name, drivers[who], protocol, pieces=who != "ours")
                for protocol in PROTOCOLS
                for who in WHO
            ]
            for name in names
        }
        found = {name: [str(future.result()) for future in cells] for name, cells in futures.items()}
    reference.close()
    if options.only:
        write_verdicts(sys.stdout, found)
    else:
        with RESULTS.open("w", encoding="utf-8", newline="") as file:
            write_verdicts(file, found)
    sys.stdout.write(counts(found))
    ours = [verdict for cells in found.values() for verdict in cells[:: len(WHO)]]
    return 1 if set(ours) != {"right"} else 0


def write_verdicts(file: TextIO, found: dict[str, list[str]]) -> None:
    """Write the verdicts of all :data:`COLUMNS` on each fault as CSV."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["fault", *COLUMNS])
    writer.writerows([name, *cells] for name, cells in found.items())


def read_verdicts() -> dict[str, list[str]]:
    """Return what is stored in :data:`RESULTS`."""
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return {name: cells for name, *cells in list(csv.reader(file))[1:]}


def counts(found: dict[str, list[str]]) -> str:
    """Return the number of verdicts of each kind as a Markdown table."""
    rows = [[f"of {len(found)}", *COLUMNS], ["---"] * (len(COLUMNS) + 1)]
    for kind in KINDS:
        columns = zip(*found.values(), strict=True)
        rows.append([kind, *(str(sum(cell.partition(":")[0] == kind for cell in column)) for column in columns)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
