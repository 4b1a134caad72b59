"""All benchmarks, as one table of ratios.

    python3 dev.py bench                      all of them, about half an hour
    python3 dev.py bench --short              a little of those that can fail: on a ratio that noise does not explain
    python3 dev.py bench tails imports        some of them
    python3 dev.py bench --json FILE          the figures too

Each benchmark runs what it compares in turn, several times; a line gives medians and, in brackets, the range. What is
compared with runs on the same machine, in the same minutes and in the same Python.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import table

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
    "triggerer",
    "many_jobs",
    "take_over",
    "local_agent",
)
"""Modules of this package; each has ``measure(*, short: bool)``, which yields the lines of the table."""
SHORT = ("tails", "scaling", "resume", "imports", "worker", "triggerer")
"""Those with ratios that noise does not turn round; the others state figures."""
PACKAGES = ("apache-airflow", "ray", "synapse-sdk", "requests", "websocket-client", "httpx", "websockets")


def main() -> int:
    """Run benchmarks and print their table; return 1 if one of them is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; if none is named, all of them"
    )
    parser.add_argument("--short", action="store_true", help="a little of each, in few rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    unknown = set(options.cases) - set(CASES)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    lines: list[Line] = []
    for case in options.cases or (SHORT if options.short else CASES):
        began = time.monotonic()
        for line in importlib.import_module(f"benchmarks.{case}").measure(short=options.short):
            print(" | ".join(cell for cell in line.cells() if cell), flush=True)
            lines.append(line)
        print(f"-- {case} took {time.monotonic() - began:.0f} s", flush=True)
        if options.json:
            options.json.write_text(json.dumps([asdict(line) for line in lines], indent=1), encoding="utf-8")
    print(f"\n{machine()}\n\n{table(lines)}")
    wrong = [line for line in lines if line.is_wrong]
    for line in wrong:
        print(f"WRONG: {line.case}, {line.what}: {line.judged:.3g}, where {line.cells()[5]} is the aim")
    return 1 if wrong else 0


def machine() -> str:
    """Return in a sentence where the figures come from."""
    installed = {each.metadata["Name"]: each.version for each in distributions()}
    found = [f"{name} {installed[name]}" for name in PACKAGES if name in installed]
    return f"{os.cpu_count()} cores, Python {platform.python_version()}, {', '.join(found)}."


if __name__ == "__main__":
    sys.exit(main())
