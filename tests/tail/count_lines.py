"""Follow a job in a separate process, and print the number of lines and the growth of its memory as JSON."""

from __future__ import annotations

import json
import sys
import time

from airflow_provider_rayagent.tail.items import lines_in
from tests.stack.watch import PATIENCE
from tests.tail.drivers import follower_of
from tests.tail.memory import WARM_LINES, peak_memory


def main(url: str, job_id: str, protocol: str) -> None:
    began = time.monotonic()
    lines = chars = warm = 0
    follower, agent = follower_of(url, job_id, protocol, silence_timeout=PATIENCE)
    with agent:
        for items in follower.blocking_items():
            found = lines_in(items)
            lines += len(found)
            chars += sum(map(len, found)) + len(found)
            if not warm and lines >= WARM_LINES:
                warm = peak_memory()
    seconds = time.monotonic() - began
    grown = peak_memory() - (warm or peak_memory())
    peak = peak_memory()
    print(json.dumps({"lines": lines, "chars": chars, "peak": peak, "grown": grown, "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
