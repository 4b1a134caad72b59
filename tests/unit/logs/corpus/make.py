"""Run the jobs of ``jobs/`` on a real Ray, under the local agent, and write their logs.

    python -m tests.unit.logs.corpus.make [JOB ...]

Before each line stands the letter of the level that is found for it; README.md says what to do then, and what the
jobs import. Needs the extra ``local``.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from airflow_provider_rayagent.local.head import free_ports, head_environment, start_command
from airflow_provider_rayagent.logs.levels import LevelFinder
from tests.stack.agent import local_agent
from tests.unit.logs.corpus import LETTERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
JOBS = HERE / "jobs"
LIBRARIES = "CORPUS_LIBRARIES"
"""Environment variable with a directory of packages for the jobs, if they are not installed with Ray."""


@contextlib.contextmanager
def ray_head(directory: Path) -> Iterator[tuple[str, str]]:
    """Start a head that, unlike the agent's own, shows the workers' lines to drivers; yield its two addresses."""
    ports = free_ports()
    command = [
        argument.replace("--include-log-monitor=false", "--include-log-monitor=true")
        for argument in start_command(ports, directory / "ray", 4)
    ]
    with (directory / "head.log").open("wb") as output:
        process = subprocess.Popen(
            command, env=head_environment(os.environ), stdout=output, stderr=output, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{ports.dashboard}"
        wait_until_answering(url)
        yield url, f"127.0.0.2:{ports.gcs}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_answering(url: str) -> None:
    """Wait until Ray's dashboard answers, jobs included.

    :raises AssertionError: if it does not within a minute.
    """
    for _ in range(120):
        with contextlib.suppress(requests.ConnectionError):
            if requests.get(f"{url}/api/jobs/", timeout=10).ok:
                return
        time.sleep(0.5)
    raise AssertionError("Ray does not answer")


def anonymous(text: str, directory: Path) -> str:
    """Return a log without the paths and addresses of the machine that it was made on."""
    libraries = os.environ.get(LIBRARIES)
    places = {
        str(JOBS): "/jobs",
        str(directory / "ray"): "/tmp/ray",
        sys.prefix: "/opt/venv",
        sys.base_prefix: "/usr",
        str(Path.home()): "/home/user",
        os.uname().nodename: "node",
        **({libraries: "/opt/venv/lib/libraries"} if libraries else {}),
    }
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place])
    return re.sub(r"\b[0-9a-f]{32,}\b", lambda match: "0123456789abcdef"[: len(match[0]) % 16 or 16] * 2, text)


def lettered(log: str) -> str:
    """Return a log with the letter of the level that is found for a line before each line."""
    levels = LevelFinder()
    return "".join(f"{LETTERS[levels.level_of(line)]} {line}\n" for line in log.split("\n")[:-1])


def main(arguments: Sequence[str]) -> int:
    """Write a log for each job that is named, or for all."""
    names = arguments or sorted(path.name for path in JOBS.iterdir() if path.suffix in (".py", ".sh"))
    environment = {"RAY_LOG_TO_STDERR": "0", "PYTHONUNBUFFERED": "1"}
    if os.environ.get(LIBRARIES):
        environment["PYTHONPATH"] = os.environ[LIBRARIES]
    with tempfile.TemporaryDirectory(prefix="ra-", dir="/tmp") as temporary:
        directory = Path(temporary)
        with (
            ray_head(directory) as (url, gcs),
            local_agent("--address", url, "--gcs-address", gcs) as agent,
        ):
            for name in names:
                variables = environment | ({"RAY_LOG_TO_STDERR": "1"} if name == "ray_core.py" else {})
                command = "bash" if name.endswith(".sh") else "python"
                job_id = agent.submit(
                    f"cd $(mktemp -d) && {command} {JOBS / name}", runtime_env={"env_vars": variables}
                )
                status = agent.wait(job_id, timeout=240)["status"]
                log = anonymous(agent.request("GET", f"jobs/{job_id}/logs/").text, directory)
                (HERE / f"{Path(name).stem}.txt").write_text(lettered(log), encoding="utf-8")
                print(name, status, log.count("\n"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
