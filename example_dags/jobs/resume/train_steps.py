"""Pretend to train with Ray Train; the next try continues after the last checkpoint."""

from __future__ import annotations

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any


def train(config: dict[str, Any]) -> None:
    """Train the steps after the last checkpoint, in a worker of Ray Train."""
    import ray.train

    state: dict[str, Any] = {"step": 0, "loss": 1.0}
    if checkpoint := ray.train.get_checkpoint():
        with checkpoint.as_directory() as folder:
            state = json.loads(Path(folder, "state.json").read_text(encoding="utf-8"))
    for step in range(state["step"] + 1, config["steps"] + 1):
        time.sleep(config["seconds"])
        # What a worker prints comes twice in Ray 2.60, what it logs comes once.
        logging.getLogger("ray.train").info("step %d of %d", step, config["steps"])
        state = {"step": step, "loss": state["loss"] / 2}
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state.json").write_text(json.dumps(state), encoding="utf-8")
            ray.train.report(
                state, checkpoint=ray.train.Checkpoint.from_directory(folder)
            )


def main() -> None:
    """Train, under a name that is the same in all tries."""
    from ray.train import RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    key = os.environ["RAYAGENT_RESUME_KEY"]
    print(
        f"{key} after {os.environ.get('RAYAGENT_PREVIOUS_JOB_ID', 'no other job')}",
        flush=True,
    )
    trainer = DataParallelTrainer(
        train,
        train_loop_config={"steps": options.steps, "seconds": options.seconds},
        scaling_config=ScalingConfig(num_workers=1),
        # Ray Train goes on from the last checkpoint that it finds under this name.
        run_config=RunConfig(name=key, storage_path=options.storage),
    )
    print(f"trained: {trainer.fit().metrics}", flush=True)


if __name__ == "__main__":
    main()
