"""The demo's Ray job: some work in Ray tasks, a line about each, over about ten seconds."""

from __future__ import annotations

import time

STEPS = 20


def line(step: int, result: int) -> str:
    """Return what the job prints for a step."""
    return f"step {step:2d} of {STEPS}: {step} squared is {result}"


def main() -> None:
    """Square numbers on the cluster."""
    import ray

    ray.init(log_to_driver=False)

    @ray.remote
    def square(number: int) -> int:
        return number * number

    for step in range(1, STEPS + 1):
        print(line(step, ray.get(square.remote(step))), flush=True)
        time.sleep(0.5)


if __name__ == "__main__":
    main()
