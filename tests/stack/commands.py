"""Run ``airflow`` commands, each as a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.stack.watch import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AIRFLOW = (sys.executable, "-m", "airflow")
WARNINGS = "ignore:FileType:PendingDeprecationWarning"
"""On Python 3.14, the parser of Airflow's commands (`airflow/cli/cli_config.py`) prints this warning to the output."""


def environment(home: Path, **connections: dict[str, Any]) -> dict[str, str]:
    """Return the environment of a command.

    :param home: Airflow's home, with its database.
    :param connections: the fields of connections of type ``rayagent``, by id.
    """
    variables = {f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()}
    return {
        **os.environ,
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONWARNINGS": WARNINGS,
        **{name: json.dumps({"conn_type": "rayagent", **value}) for name, value in variables.items()},
    }


def airflow(
    *arguments: str, env: dict[str, str], through: tuple[str, ...] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end.

    :param through: a command that runs it, such as a shell that redirects its output.
    """
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [*through, *AIRFLOW, *arguments]
    return subprocess.run(command, env=env, check=False, text=True, timeout=PATIENCE, **pipes)


@contextlib.contextmanager
def start_airflow(*arguments: str, env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command, with pipes for its output, in a block; :func:`finish` waits for its end.

    If the block fails, the command is killed: a test would wait for it even after its timeout.
    """
    with subprocess.Popen(
        [*AIRFLOW, *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def finish(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Return the rest of a command's output and its messages, which must be few, and wait until it has ended.

    Unlike ``communicate``, it also returns what was read ahead from the pipe.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    output, messages = process.stdout.read(), process.stderr.read()
    process.wait(PATIENCE)
    return output, messages
