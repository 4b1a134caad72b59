"""Pretend to predict with Ray Data; the next try omits the rows that are done."""

from __future__ import annotations

import argparse
import os
import time
from typing import Any


def predict(row: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return a row with its prediction."""
    time.sleep(seconds)
    return {**row, "prediction": row["id"] % 2}


def main() -> None:
    """Predict, and write the rows beside the ids of those that are done."""
    import ray
    from ray.data import DataContext
    from ray.data.checkpoint import CheckpointConfig

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--storage", required=True)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.01)
    options = parser.parse_args()
    folder = f"{options.storage}/{os.environ['RAYAGENT_RESUME_KEY']}"
    DataContext.get_current().checkpoint_config = CheckpointConfig(
        id_column="id", checkpoint_path=f"{folder}/done"
    )
    rows = ray.data.range(options.rows, override_num_blocks=20)
    rows = rows.map(lambda row: predict(row, options.seconds))
    rows.write_parquet(f"{folder}/rows")


if __name__ == "__main__":
    main()
