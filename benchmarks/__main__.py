"""Run benchmarks and print a table of ratios.

    python3 dev.py bench                      all benchmarks, about 125 minutes
    python3 dev.py bench --short              short versions of those that can fail, on ratios that are not noise
    python3 dev.py bench tails imports        some benchmarks
    python3 dev.py bench --json FILE          also write the figures to a file, which keeps those of other benchmarks

Each benchmark alternates several times between the candidates; a line of the table contains medians and, in brackets,
ranges. All candidates run on the same machine, at the same time, and in the same Python.
"""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import sys
import time
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import table
from benchmarks.report import store

if TYPE_CHECKING:
    from benchmarks.measure import Line

CASES = (
    "tails",
    "scaling",
    "resume",
    "imports",
    "load",
    "delays",
    "worker",
    "metrics",
    "triggerer",
    "many_jobs",
    "take_over",
    "resuming",
    "plain_ray",
    "waits",
    "looks",
    "ray_client",
    "viewers",
    "page",
)
"""Modules of this package; in each, ``measure(*, short: bool)`` yields lines of the table."""
SHORT = ("tails", "scaling", "resume", "worker", "triggerer")
"""Benchmarks with ratios that noise does not reverse; the others measure absolute figures."""
PACKAGES = ("apache-airflow", "ray", "synapse-sdk", "requests", "websocket-client", "httpx", "websockets")


def main() -> int:
    """Run benchmarks and print their table; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"benchmarks to run ({', '.join(CASES)}); default: all"
    )
    parser.add_argument("--short", action="store_true", help="run a short version of each, with few rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also store the figures in this file")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"unknown benchmarks: {', '.join(sorted(unknown))}; available: {', '.join(CASES)}")
    lines: list[Line] = []
    for case in options.cases or (SHORT if options.short else CASES):
        began = time.monotonic()
        for line in importlib.import_module(f"benchmarks.{case}").measure(short=options.short):
            print(" | ".join(cell for cell in line.cells() if cell), flush=True)
            lines.append(line)
        print(f"-- {case} took {time.monotonic() - began:.0f} s", flush=True)
        if options.json:
            store(options.json, machine(), [line.result() for line in lines])
    print(f"\n{machine()}\n\n{table([line.result() for line in lines])}")
    failed = [line for line in lines if line.is_failed]
    for line in failed:
        print(f"FAILED: {line.case}, {line.what}: {line.judged_value:.3g}, target {line.cells()[5]}")
    return 1 if failed else 0


def machine() -> str:
    """Describe the machine and the installed packages."""
    installed = {each.metadata["Name"]: each.version for each in distributions()}
    versions = [f"{name} {installed[name]}" for name in PACKAGES if name in installed]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(versions)}."


if __name__ == "__main__":
    sys.exit(main())
