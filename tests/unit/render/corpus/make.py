"""Run the jobs of ``jobs/`` on a real Ray, under the local agent, and write their logs.

    python -m tests.unit.render.corpus.make [JOB ...]

Before each line stands the letter of the level that is found for it; README.md says what to do then, and what the
jobs import. Needs the extra ``local``.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.render.levels import LevelFinder
from tests.stack.agent import local_agent
from tests.stack.ray import cluster
from tests.unit.render.corpus import LETTERS

if TYPE_CHECKING:
    from collections.abc import Sequence

HERE = Path(__file__).resolve().parent
JOBS = HERE / "jobs"
LIBRARIES = "CORPUS_LIBRARIES"
"""Environment variable with a directory of packages for the jobs, if they are not installed with Ray."""


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
    # Unlike the agent's own head it shows drivers the lines of their workers, as Ray does by default.
    with cluster(log_monitor=True) as ray, local_agent("--address", ray.dashboard_url) as agent:
        for name in names:
            variables = environment | ({"RAY_LOG_TO_STDERR": "1"} if name == "ray_core.py" else {})
            command = "bash" if name.endswith(".sh") else "python"
            job_id = agent.submit(f"cd $(mktemp -d) && {command} {JOBS / name}", runtime_env={"env_vars": variables})
            status = agent.wait(job_id)["status"]
            log = anonymous(agent.request("GET", f"jobs/{job_id}/logs/").text, ray.directory)
            (HERE / f"{Path(name).stem}.txt").write_text(lettered(log), encoding="utf-8")
            print(name, status, log.count("\n"), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
