"""What the environments give to the tests, and to the servers that these start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.runner.environments import CONSTRAINT_VARIABLES, ROOT, is_locked, temporary_folder, variables

if TYPE_CHECKING:
    import pytest


def test_tests_and_their_servers_get_no_constraints_with_a_relative_path() -> None:
    program = "import os, tests.conftest; print(sorted(name for name in os.environ if name.startswith('UV_')))"
    env = {**os.environ, **variables("test"), "UV_HTTP_TIMEOUT": "180"}
    assert [name in env for name in CONSTRAINT_VARIABLES] == [is_locked()] * len(CONSTRAINT_VARIABLES)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert "UV_HTTP_TIMEOUT" in done.stdout
    assert [name for name in CONSTRAINT_VARIABLES if name in done.stdout] == []


def test_what_a_run_leaves_in_its_temporary_folder_is_removed_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TMPDIR", raising=False)
    program = "import tempfile; print(tempfile.mkdtemp(prefix='left-'))"
    command = [sys.executable, "-c", program]
    with temporary_folder():
        done = subprocess.run(command, env=variables(), capture_output=True, text=True, check=True)
        left = Path(done.stdout.strip())
        assert left.is_dir()
        # The paths of sockets in it are limited to 107 characters, and other users run some of the servers.
        assert (len(left.parent.name), left.parent.stat().st_mode & 0o777) == (len("ra-") + 8, 0o711)
    assert not left.parent.exists()
    assert "TMPDIR" not in os.environ
