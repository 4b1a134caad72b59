"""A job that reports while it runs: progress, XComs, an asset's data, and a link."""

from __future__ import annotations

from airflow.sdk import Asset, Param, dag, task

MODEL = Asset("rayagent_example_model")


@task.ray(num_cpus=0.1, outlets=[MODEL], printed_links=["Report"])
def train(epochs: int) -> str:
    """Pretend to train a model."""
    import time

    from rayagent_task import rayagent_message

    report = "https://reports.example.com/runs/7"
    rayagent_message("link", {"name": "Report", "url": report})
    loss = 1.0
    for epoch in range(1, epochs + 1):
        time.sleep(0.2)
        loss /= 2
        rayagent_message("xcom", {"loss": loss, "epoch": epoch})
        text = f"loss {loss:.3f}"
        rayagent_message("progress", {"done": epoch, "total": epochs, "text": text})
    rayagent_message("asset", {"extra": {"loss": loss}})
    return "s3://models/7"


@task
def check(loss: float) -> bool:
    """Use an XCom that the job has set."""
    return loss < 0.2


@dag(
    description="What a job reports while it runs.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    render_template_as_native_obj=True,
    params={"epochs": Param(3, type="integer", minimum=1)},
)
def rayagent_messages() -> None:
    """Train, then check the loss."""
    trained = train(epochs="{{ params.epochs }}")  # type: ignore[arg-type]
    check(trained["loss"])  # type: ignore[index]


rayagent_messages()
