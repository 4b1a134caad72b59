"""Deploy a Ray Serve application for a trained model, and leave it running.

Usage: ``python deploy_model.py NAME LOSS``
"""

from __future__ import annotations

import sys

from ray import serve


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Model:
    """Answers with what it knows of its training."""

    def __init__(self, loss: float) -> None:
        self.loss = loss

    def __call__(self) -> dict[str, float]:
        return {"loss": self.loss}


if __name__ == "__main__":
    name, loss = sys.argv[1:]
    model = Model.bind(float(loss))  # type: ignore[attr-defined]
    serve.run(model, name=name, route_prefix=f"/{name}")
    print(f"deployed {name}", flush=True)
