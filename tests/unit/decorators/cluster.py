"""A cluster that runs the functions that are sent to it: their package, in a process of its own, without Airflow."""

from __future__ import annotations

import io
import json
import os
import shlex
import subprocess
import sys
import tempfile
import zipfile
from typing import TYPE_CHECKING, Any

from tests.scripted import Answer, Job

if TYPE_CHECKING:
    from tests.scripted import Request, ScriptedAgent


def packages_of(body: dict[str, Any], server: ScriptedAgent) -> list[zipfile.ZipFile]:
    """Return the packages that a submission names as its ``py_modules``, as far as they were uploaded."""
    names = [uri.removeprefix("gcs://") for uri in body["runtime_env"]["py_modules"]]
    return [zipfile.ZipFile(io.BytesIO(server.packages[name])) for name in names if name in server.packages]


def run_job(server: ScriptedAgent, request: Request, *, python: str = sys.executable) -> Answer:
    """Run the submitted job to its end, as Ray's job supervisor does; then answer.

    :param python: the interpreter of the cluster.
    """
    body = json.loads(request.body)
    job_id = body["submission_id"]
    with tempfile.TemporaryDirectory() as folder:
        for package in packages_of(body, server):
            package.extractall(folder)
        # -S: without installed packages, as on a cluster that has no Airflow.
        command = [python, "-S", *shlex.split(body["entrypoint"])[1:]]
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": folder, **body["runtime_env"]["env_vars"]}
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env, check=False)
    server.jobs[job_id] = Job(
        done.stdout.decode(),
        "FAILED" if done.returncode else "SUCCEEDED",
        job_id,
        details={name: body[name] for name in ("metadata", "runtime_env")},
    )
    return Answer(200, {"job_id": job_id, "submission_id": job_id})
