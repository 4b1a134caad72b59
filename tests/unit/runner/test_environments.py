"""What the environments give to the tests, and to the servers that these start."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.runner.environments import CONSTRAINT_VARIABLES, ROOT, is_locked, variables


def test_tests_and_their_servers_get_no_constraints_with_a_relative_path() -> None:
    program = "import os, tests.conftest; print(sorted(name for name in os.environ if name.startswith('UV_')))"
    env = {**os.environ, **variables("test"), "UV_HTTP_TIMEOUT": "180"}
    assert [name in env for name in CONSTRAINT_VARIABLES] == [is_locked()] * len(CONSTRAINT_VARIABLES)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert "UV_HTTP_TIMEOUT" in done.stdout
    assert [name for name in CONSTRAINT_VARIABLES if name in done.stdout] == []
