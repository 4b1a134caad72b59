"""Ray Tune and Train: trials that report, one that fails, and a trainer."""

from __future__ import annotations

import logging
from typing import Any

from ray import train, tune


def objective(config: dict[str, Any]) -> None:
    for step in range(3):
        logging.getLogger("objective").warning("step %d of x=%s", step, config["x"])
        if config["x"] == 2:
            raise ValueError("x must not be 2")
        tune.report({"loss": config["x"] / (step + 1), "error": 0.01})


results = tune.Tuner(objective, param_space={"x": tune.grid_search([1, 2, 3])}).fit()
print(results.num_errors, "errors")


def loop() -> None:
    for epoch in range(2):
        print("epoch", epoch)
        train.report({"loss": 1 / (epoch + 1)})


from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer  # noqa: E402

print(DataParallelTrainer(loop, scaling_config=train.ScalingConfig(num_workers=1)).fit())
