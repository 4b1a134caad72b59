"""Create a Ray cluster for each part of the work, use it, and delete it in any case.

The clusters are Ray heads on the machine of the worker: in place of ``create`` and
``delete``, use the operators of your cloud. The connection ``ray_clusters`` is to plain
Ray, with the Service URL http://{cluster} and the Clusters 127.0.0.1:1024-65535.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

import psutil  # type: ignore[import-untyped]
from airflow.sdk import DAG, Param, XComArg, setup, task, task_group, teardown

from airflow_provider_rayagent.operators.rayagent import RayAgentSubmitJobOperator
from airflow_provider_rayagent.sensors.rayagent import RayAgentJobSensor

ADDRESS = "127.0.0.1"
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "ray-client-server-port",
)
"""Ports that are the same for all heads of a machine, unless they are chosen."""
NAME = "NAME_OF_RAY_CLUSTER"
"""The variable in the environment of a head, and so of all its processes."""


@setup
@task(retries=2)
def create(name: str) -> str:
    """Start a Ray head, and return the address of its dashboard."""
    # One try may have been killed after it had started a head.
    end_processes(name)
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server((ADDRESS, 0))) for _ in PORTS
        ]
        ports = dict(
            zip(PORTS, (each.getsockname()[1] for each in sockets), strict=True)
        )
    directory_of(name).mkdir(mode=0o700)
    # Jobs have the environment of their head: no settings of Airflow.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("AIRFLOW")}
    environment |= {
        NAME: name,
        "RAY_TMPDIR": str(directory_of(name)),
        # Ray on macOS replaces loopback addresses otherwise.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    options = {
        **ports,
        "node-ip-address": ADDRESS,
        "min-worker-port": 0,
        "max-worker-port": 0,
        "num-cpus": 2,
        "object-store-memory": 80_000_000,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
    command += [f"--{option}={value}" for option, value in options.items()]
    try:
        subprocess.run(
            command,
            env=environment,
            check=True,
            start_new_session=True,
            # Otherwise it is the socket of the task to Airflow, which the bash of a job
            # takes for a remote login: it then reads ~/.bashrc, with another PATH.
            stdin=subprocess.DEVNULL,
        )
    except BaseException:
        # There is no teardown for a setup that has failed.
        end_processes(name)
        raise
    return f"{ADDRESS}:{ports['dashboard-port']}"


@teardown
@task(retries=2)
def delete(name: str) -> None:
    """End the head and its jobs."""
    end_processes(name)


def end_processes(name: str) -> None:
    """Kill all processes of a head, and remove its files."""
    while True:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(NAME) == name:
                    process.kill()
                    found.append(process)
        if not found:
            break
        psutil.wait_procs(found, timeout=5)
    shutil.rmtree(directory_of(name), ignore_errors=True)


def directory_of(name: str) -> Path:
    """Return the folder of a head. Its path is short: those of sockets are limited."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return Path(tempfile.gettempdir(), f"ray-{digest[:12]}")


@task.ray(num_cpus=0.1)
def square(part: int) -> int:
    """Return the square, computed by a task of Ray."""
    import ray

    ray.init()
    print(f"squaring {part}")
    return ray.get(ray.remote(lambda: part**2).remote())


with DAG(
    dag_id="rayagent_own_cluster",
    description="Two Ray clusters at once, which the DAG creates and deletes.",
    schedule=None,
    catchup=False,
    default_args={
        "rayagent_conn_id": "ray_clusters",
        "retries": 1,
        "retry_delay": timedelta(seconds=1),
    },
    tags=["example", "rayagent"],
    params={
        "failures": Param(0, type="integer", description="Tries of count that fail."),
        "seconds": Param(1, type="integer", description="How long a job runs."),
    },
):

    @task_group
    def on_own_cluster(part: int) -> None:
        """Use a cluster from its creation to its deletion."""
        name = "{{ run_id }}/{{ ti.map_index }}"
        cluster = create(name)
        count = RayAgentSubmitJobOperator(
            task_id="count",
            cluster=cluster,
            entrypoint="echo try {{ ti.try_number }};"
            " test {{ ti.try_number }} -gt {{ params.failures }}",
        )
        start = RayAgentSubmitJobOperator(
            task_id="start",
            cluster=cluster,
            entrypoint="sleep {{ params.seconds }}; echo slept",
            wait=False,
        )
        follow = RayAgentJobSensor(
            task_id="follow",
            cluster=cluster,
            job_id=XComArg(start, key="job_id"),  # type: ignore[arg-type]
            deferrable=True,
        )
        squared = square.override(cluster=cluster)(part)
        deleted = delete(name)
        cluster >> deleted
        cluster >> [count, start >> follow, squared] >> deleted

    on_own_cluster.expand(part=[1, 2])
