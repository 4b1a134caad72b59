"""Pretend to train a model: compare learning rates in Ray tasks, and print the best."""

from __future__ import annotations

import argparse
import json
from typing import Any


def print_result(result: Any) -> None:
    """Print JSON that becomes the ``result`` in Airflow."""
    print(
        f"__RAYAGENT_RESULT_START__{json.dumps(result)}__RAYAGENT_RESULT_END__",
        flush=True,
    )


def loss(rate: float, epochs: int) -> float:
    """Return how far gradient descent on x² is from the minimum."""
    position = 1.0
    for _ in range(epochs):
        position -= rate * 2 * position
    return position * position


def main() -> None:
    """Measure all learning rates in parallel."""
    import ray

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rates", type=float, nargs="+", default=[0.1, 0.25])
    options = parser.parse_args()

    ray.init()
    measure = ray.remote(num_cpus=0.5)(loss)
    losses = ray.get([measure.remote(rate, options.epochs) for rate in options.rates])
    for rate, value in zip(options.rates, losses, strict=True):
        print(
            f"rate {rate:g}: loss {value:.6f} after {options.epochs} epochs", flush=True
        )
    best = min(losses)
    print_result(
        {
            "epochs": options.epochs,
            "rate": options.rates[losses.index(best)],
            "loss": best,
        }
    )


if __name__ == "__main__":
    main()
