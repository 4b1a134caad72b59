"""Submit a job to the local agent and follow it. Only the local agent takes jobs this way."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, Param, task

from airflow_provider_rayagent.hooks.rayagent import RayAgentHook
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

PROGRAM = "import time; [print('step', step, 'of 10', flush=True) or time.sleep(1) for step in range(1, 11)]"


@task
def submit_job(entrypoint: str) -> str:
    """Submit the job, and return its id."""
    import requests

    agent = RayAgentHook().config
    answer = requests.post(agent.url("jobs/"), json={"entrypoint": entrypoint}, headers=agent.headers, timeout=60)
    answer.raise_for_status()
    return str(answer.json()["submission_id"])


with DAG(
    dag_id="rayagent_local_job",
    description="Submit a job to the local agent, and follow it.",
    schedule=None,
    catchup=False,
    tags=["example", "rayagent"],
    params={"entrypoint": Param(f'python -c "{PROGRAM}"', type="string", description="Command that Ray runs.")},
):
    follow_job = RayAgentJobSensor(
        task_id="follow_job",
        job_id="{{ ti.xcom_pull('submit_job') }}",
        timeout=timedelta(hours=1).total_seconds(),
    )
    submit_job("{{ params.entrypoint }}") >> follow_job
