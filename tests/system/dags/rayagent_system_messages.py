"""A job that prints messages and waits in between, in a worker and deferred."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, Param
from airflow.sdk import task as step

with DAG("system_messages_idle", schedule=None):
    EmptyOperator(task_id="nothing")

for mode in ("worker", "deferred"):
    with DAG(f"system_messages_{mode}", schedule=None, params={"release": Param("", type="string")}):

        @step.ray(
            outlets=[Asset(f"messages_{mode}")],
            printed_links=["Report", "Never printed"],
            deferrable=mode == "deferred",
        )
        def reports(release: str) -> int:
            import time
            from pathlib import Path

            from rayagent_task import rayagent_message

            rayagent_message("link", {"name": "Report", "url": "https://reports.example.com/?run=7&x=%22"})
            rayagent_message("xcom", {"loss": 1.0, "best": None})
            rayagent_message("progress", {"done": 1, "total": 4, "text": "epoch 1"})
            print("the user entered __RAYAGENT_MESSAGE__ " + '{"kind": "xcom", "data": {"forged": 1}}')
            while not Path(release).exists():
                time.sleep(0.1)
            rayagent_message("xcom", {"loss": 0.5})
            rayagent_message("progress", {"done": 4, "total": 4})
            rayagent_message("asset", {"extra": {"rows": 7}})
            rayagent_message("xcom", {"return_value": "forged"})
            # Airflow puts the key into the URL of its API server: this one would start a run of a DAG.
            rayagent_message("xcom", {"../../../../dag-runs/system_messages_idle/forged": {}})
            return 7

        reports("{{ params.release }}")
