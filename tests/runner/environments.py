"""The environments of ``setup.cfg``: tox, and how it is called."""

from __future__ import annotations

import configparser
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.runner.processes import forwarded_signals, run

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".tox"
TOOLS = WORK / ".tools"
CONSTRAINTS = Path(".ci") / "constraints"
"""Relative to the checkout, where tox calls uv, since uv splits the value of its variable at spaces."""
CONSTRAINT_VARIABLES = ("UV_CONSTRAINT", "UV_BUILD_CONSTRAINT")
LOCKED_PYTHON = (3, 11)
"""The Python that the versions in ``landing.txt`` are for."""
LOCKED = {
    **dict.fromkeys(("test", "deployed", "lint", "types", "docs", "unit", "demo", "build"), "landing.txt"),
    "synapse": "synapse.txt",
    "collect": "collect.txt",
}
"""The versions for each environment of the landing check. The others install the newest or the oldest ones."""
LOCKING = {
    "landing.txt": (".".join(map(str, LOCKED_PYTHON)), "--extra=local", "--group=landing"),
    "synapse.txt": ("3.12", "--group=contract"),
    "collect.txt": (".".join(map(str, LOCKED_PYTHON)), "--group=collect"),
}
"""The Python of each file, and what it has the versions of."""
REQUIREMENTS = ("tox>=4.30", "tox-uv>=1.28")
# tox installs packages with uv, which has other names for pip's settings.
UV_NAMES = {
    "PIP_INDEX_URL": "UV_DEFAULT_INDEX",
    "PIP_EXTRA_INDEX_URL": "UV_INDEX",
    "PIP_FIND_LINKS": "UV_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT": "UV_HTTP_TIMEOUT",
    "PIP_CERT": "SSL_CERT_FILE",
}


def is_locked() -> bool:
    """Return whether the landing check installs fixed versions with the Python that runs this."""
    return sys.version_info[:2] == LOCKED_PYTHON


def locked_versions(env: str) -> dict[str, str]:
    """Return uv's variables for the fixed versions of an environment; empty if it has none."""
    return dict.fromkeys(CONSTRAINT_VARIABLES, str(CONSTRAINTS / LOCKED[env])) if env in LOCKED and is_locked() else {}


def set_up_tools() -> None:
    """Create the private environment with tox and uv if it does not exist."""
    python = TOOLS / "bin" / "python"
    stamp = TOOLS / "stamp"
    # Environments contain absolute paths, so create it again after a move or an upgrade.
    expected = f"{TOOLS} {sys.executable} {sys.version} {REQUIREMENTS}"
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == expected:
        return
    sys.stderr.write(f"dev.py: setting up tox in {TOOLS.relative_to(ROOT)} (once)\n")
    shutil.rmtree(WORK, ignore_errors=True)
    if run([sys.executable, "-m", "venv", str(TOOLS)]):
        raise SystemExit(
            f"dev.py: {sys.executable} cannot create a virtual environment; on Debian install python3-venv."
        )
    constraints = ("--constraint", str(ROOT / CONSTRAINTS / "landing.txt")) if is_locked() else ()
    install = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", *constraints, *REQUIREMENTS]
    if run([str(python), *install]):
        raise SystemExit(f"dev.py: could not install {' and '.join(REQUIREMENTS)}.")
    stamp.write_text(expected, encoding="utf-8")


@contextlib.contextmanager
def temporary_folder() -> Iterator[None]:
    """Let all that is started in the block put its temporary files into one folder, which is removed at the end.

    Browsers leave theirs, and so do processes that are killed.
    """
    # A short name, since it contains sockets.
    with tempfile.TemporaryDirectory(prefix="ra-", ignore_cleanup_errors=True) as folder:
        # PostgreSQL runs as another user, who has to reach its files.
        Path(folder).chmod(0o711)
        before = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = before


def has_python(version: str) -> bool:
    """Return whether there is a Python of this version."""
    command = [str(TOOLS / "bin" / "uv"), "python", "find", version]
    done = subprocess.run(command, env=variables(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return done.returncode == 0


def lock() -> int:
    """Choose the versions of the landing check anew, the newest that fit together; return an exit code."""
    for name, (python, *what) in LOCKING.items():
        file = CONSTRAINTS / name
        (ROOT / file).parent.mkdir(exist_ok=True)
        (ROOT / file).unlink(missing_ok=True)
        header = "--custom-compile-command=python3 dev.py lock"
        command = [str(TOOLS / "bin" / "uv"), "pip", "compile", "--quiet", "--no-annotate", header, "pyproject.toml"]
        if code := run([*command, f"--python-version={python}", *what, "--output-file", str(file)], cwd=ROOT):
            return code
    return 0


def tox(env: str, *arguments: str, full: bool = False) -> int:
    """Run the command of an environment; return its exit code, or INTERRUPTED as ``run`` does."""
    return run(tox_command("run", env, "--", *arguments), cwd=ROOT, env=variables(env, full=full))


def run_module(env: str, module: str, *arguments: str) -> int:
    """Run a module in an environment; return its exit code. Not under tox, to which Ctrl-C is a failure."""
    code = run(tox_command("run", env, "--notest"), cwd=ROOT, env=variables(env))
    if code:
        return code
    command = [str(WORK / env / "bin" / "python"), "-m", module, *arguments]
    with forwarded_signals() as processes:
        return processes.start(command, cwd=ROOT, env=os.environ | set_variables(env)).wait()


def set_variables(env: str) -> dict[str, str]:
    """Return the environment variables that setup.cfg sets in every environment."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["testenv"]["set_env"].replace("{env_dir}", str(WORK / env)).split("\n")
    return dict(line.split(" = ", 1) for line in lines if line)


def tox_command(subcommand: str, env: str, *options: str, log_dir: Path | None = None) -> list[str]:
    """Return the command line of tox for an environment; ``exec`` runs a command in one that exists.

    :param options: of tox; after ``--`` those of the command.
    :param log_dir: folder for tox's own logs if several commands use the environment at the same time: each deletes
        what is there when it starts, and fails if another one did so first.
    """
    command = [str(TOOLS / "bin" / "python"), "-m", "tox", subcommand, "--conf", str(ROOT / "setup.cfg"), "-e", env]
    if log_dir is not None:
        command += ["--override", f"testenv:{env}.env_log_dir={log_dir}"]
    return [*command, *options]


def variables(env: str = "", *, full: bool = False) -> dict[str, str]:
    """Return the environment variables for tox: pip's settings for uv, all Python versions of pyenv, fixed versions.

    :param env: the environment that tox is to create or use.
    :param full: whether the tests of the full check are to run.
    """
    found = dict(os.environ)
    found["PATH"] = os.pathsep.join([str(TOOLS / "bin"), found.get("PATH", os.defpath)])
    found["UV_PYTHON_DOWNLOADS"] = "never"
    if full:
        found["TEST_LEVEL"] = "full"
    for name, value in locked_versions(env).items():
        found.setdefault(name, value)
    for pip_name, uv_name in UV_NAMES.items():
        if pip_name in found:
            found.setdefault(uv_name, found[pip_name])
    if shutil.which("pyenv"):
        chosen = _pyenv("version-name").replace(":", " ").split()
        others = [name for name in _pyenv("versions", "--bare").split() if re.match(r"3\.\d\d\.", name)]
        found["PYENV_VERSION"] = ":".join(dict.fromkeys(chosen + others))
    return found


def _pyenv(*arguments: str) -> str:
    """Return the output of pyenv, empty if it fails."""
    done = subprocess.run(["pyenv", *arguments], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
