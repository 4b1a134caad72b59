"""Sum numbers in plain Python; the next try continues after the last saved number."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path


def save(path: Path, state: dict[str, int]) -> None:
    """Replace the file as a whole: a killed try leaves the last complete state."""
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(state, file)
        file.flush()
        os.fsync(file.fileno())
    # This is os.replace(), for which both files must be in the same folder.
    temporary.replace(path)


def main() -> None:
    """Sum the numbers after the last one that is saved."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--numbers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    path = Path(options.storage, f"{os.environ['RAYAGENT_RESUME_KEY']}.json")
    state = {"number": 0, "sum": 0}
    if path.exists():
        state = json.loads(path.read_text(encoding="utf-8"))
    for number in range(state["number"] + 1, options.numbers + 1):
        time.sleep(options.seconds)
        print(f"number {number} of {options.numbers}", flush=True)
        state = {"number": number, "sum": state["sum"] + number}
        save(path, state)
    print(f"sum: {state['sum']}", flush=True)
    # Now the result is out, and no try needs the state any more.
    path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
