"""Pretend to train a model: print epochs, a progress bar for each, and the result."""

from __future__ import annotations

import json
import os
import sys
import time

STEPS = 20


def bar(epoch: int, step: int, seconds: float) -> str:
    """Return a state of the epoch's progress bar, in the form of tqdm's."""
    drawn = "#" * step + " " * (STEPS - step)
    done = seconds * step / STEPS
    times = (
        f"{clock(done)}<{clock(seconds - done)}, {STEPS / max(seconds, 0.001):5.2f}it/s"
    )
    return f"epoch {epoch}: {step * 100 // STEPS:3}%|{drawn}| {step}/{STEPS} [{times}]"


def clock(seconds: float) -> str:
    """Return minutes and seconds."""
    return f"{int(seconds) // 60:02}:{int(seconds) % 60:02}"


def main() -> int:
    """Train as the parameters say; return the exit code."""
    params = json.loads(os.environ["RAYAGENT_PARAMS"])
    epochs = int(params.get("epochs", 3))
    seconds = float(params.get("seconds", 0.2))
    fail_at = params.get("fail_at")
    print(
        f"{os.environ['RAYAGENT_ACTION']}: {epochs} epochs, "
        f"as job {os.environ['RAYAGENT_JOB_ID']}",
        flush=True,
    )
    loss = 1.0
    for epoch in range(1, epochs + 1):
        if epoch == fail_at:
            raise ValueError(f"the loss is not a number in epoch {epoch}")
        for step in range(STEPS + 1):
            print(f"\r{bar(epoch, step, seconds)}", end="", file=sys.stderr, flush=True)
            time.sleep(seconds / (STEPS + 1))
        print(file=sys.stderr, flush=True)
        loss /= 2
        print(f"epoch {epoch}/{epochs}: loss {loss:.4f}", flush=True)
    print("__SYNAPSE_RESULT_START__")
    print(json.dumps({"epochs": epochs, "loss": loss}))
    print("__SYNAPSE_RESULT_END__", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
