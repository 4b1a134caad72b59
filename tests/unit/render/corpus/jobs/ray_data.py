"""Ray Data: a pipeline, its progress bars, and one that fails."""

from __future__ import annotations

from typing import Any

import ray


def double(batch: dict[str, Any]) -> dict[str, Any]:
    print("a batch of", len(batch["id"]))
    return {"id": batch["id"] * 2}


def broken(batch: dict[str, Any]) -> dict[str, Any]:
    raise ValueError(f"cannot read a batch of {len(batch['id'])}")


class Model:
    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return batch


data = ray.data.range(1000).map_batches(double, batch_size=250)
print(data.sum("id"))
print(data.map_batches(Model, concurrency=1).take(2))
print(data.stats())
print(data.schema())
ray.data.range(100).map_batches(broken).materialize()
