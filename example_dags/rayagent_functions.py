"""Train with Ray Data and evaluate: functions of this file, run on the cluster."""

from __future__ import annotations

from airflow.sdk import Param, dag, task


@task.ray(num_cpus=0.1, requirements=["pandas", "pyarrow"], retries=2)
def train(rows: int) -> dict[str, float]:
    """Fit a line to points, whose sums Ray Data computes in parallel."""
    import ray

    ray.init()
    points = ray.data.range(rows).map(
        lambda row: {"x": row["id"], "y": 2.0 * row["id"] + 1}
    )
    sums = points.map(lambda p: {**p, "xx": p["x"] ** 2, "xy": p["x"] * p["y"]}).sum(
        ["x", "y", "xx", "xy"]
    )
    x, y, xx, xy = (float(sums[f"sum({name})"]) for name in ("x", "y", "xx", "xy"))
    slope = (rows * xy - x * y) / (rows * xx - x * x)
    print(f"trained on {rows} points: slope {slope:.3f}")
    return {"slope": slope, "intercept": (y - slope * x) / rows}


@task.ray(num_cpus=0.1)
def evaluate(model: dict[str, float], at: float) -> float:
    """Return the error of the model at one point."""
    return abs(model["slope"] * at + model["intercept"] - (2 * at + 1))


@dag(
    description="Functions as Ray jobs.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    render_template_as_native_obj=True,
    params={"rows": Param(1000, type="integer", minimum=2)},
)
def rayagent_functions() -> None:
    """Train, then evaluate."""
    evaluate(train(rows="{{ params.rows }}"), at=7.5)  # type: ignore[arg-type]


rayagent_functions()
