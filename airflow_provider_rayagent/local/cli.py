"""The command ``rayagent-local``."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import logging
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_rayagent.local.errors import LocalAgentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_rayagent.local.plugin_folder import PluginFolder
    from airflow_provider_rayagent.local.server import Options

NO_RAY = "Ray is not installed: pip install 'airflow-provider-rayagent[local]'"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the local agent until Ctrl-C or TERM; return the exit code."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if parsed.verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    # Found, but not imported: that takes seconds, and only the processes of the head need it.
    if importlib.util.find_spec("ray") is None:
        return _fail(NO_RAY)
    try:
        # Not at the top: `--help` and the message above must work without the packages of the extra `local`.
        from airflow_provider_rayagent.local.server import run

        return asyncio.run(run(_options(parsed)))
    except LocalAgentError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        # Ctrl-C before `run` has its own handlers, such as during the imports: 128 + SIGINT, as from a shell.
        return 130


def _fail(reason: str) -> int:
    sys.stderr.write(f"rayagent-local: {reason}\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rayagent-local",
        description="A small Ray agent in front of a real Ray on this machine, for testing.",
        # With abbreviations, a new option could make one ambiguous that a script uses.
        allow_abbrev=False,
    )
    ray = parser.add_argument_group("Ray")
    ray.add_argument(
        "--address",
        metavar="URL",
        help="dashboard of an existing Ray, such as http://127.0.0.1:8265; default: start a lightweight head",
    )
    ray.add_argument(
        "--ray-token-file",
        type=Path,
        metavar="PATH",
        help="file with the existing Ray's token; default: the token that Ray's own tools use",
    )
    ray.add_argument("--num-cpus", type=_positive, default=4, help="CPUs that the started head offers (default: 4)")
    ray.add_argument(
        "--start-timeout", type=_positive, default=90, metavar="S", help="seconds to wait for the head (default: 90)"
    )
    agent = parser.add_argument_group("agent")
    agent.add_argument("--host", default="127.0.0.1", help="loopback address to listen on (default: 127.0.0.1)")
    agent.add_argument("--port", type=_port, default=0, help="port to listen on (default: a free one)")
    token = agent.add_mutually_exclusive_group()
    token.add_argument("--token", help="agent token; other users can see it in the process list")
    token.add_argument("--token-file", type=Path, metavar="PATH", help="file with the agent token")
    agent.add_argument(
        "--info-file",
        type=Path,
        metavar="PATH",
        help="once ready, write a JSON file with url, token, ray_address, ray_token_file, gcs_address and pid; "
        "removed at exit",
    )
    plugins = parser.add_argument_group("plugins")
    plugins.add_argument(
        "--plugins", type=Path, metavar="DIR", help="folder of plugins to run; each subfolder contains a plugin.yaml"
    )
    plugins.add_argument(
        "--max-running-jobs",
        type=_positive,
        default=3,
        metavar="N",
        help="maximum number of plugin jobs on Ray at a time; others wait in a queue (default: 3)",
    )
    agent.add_argument("--verbose", action="store_true", help="log more")
    return parser


def _options(parsed: argparse.Namespace) -> Options:
    from airflow_provider_rayagent.local.ray_token import find_token
    from airflow_provider_rayagent.local.server import Options
    from airflow_provider_rayagent.local.token_check import check_token

    if parsed.ray_token_file and not parsed.address:
        raise LocalAgentError("--ray-token-file requires --address: a head that the agent starts gets a new token.")
    if parsed.ray_token_file:
        # Only for its error: RayDashboard reports a bad token file no earlier than Ray requires a token.
        find_token(parsed.ray_token_file, {})
    token = _read_token(parsed.token_file) if parsed.token_file else parsed.token
    return Options(
        # Hexadecimal: a token that begins with "-", as one of token_urlsafe can, is an option to every command line.
        token=check_token(secrets.token_hex(24) if token is None else token),
        is_token_generated=token is None,
        address=parsed.address,
        ray_token_file=parsed.ray_token_file,
        host=parsed.host,
        port=parsed.port,
        num_cpus=parsed.num_cpus,
        start_timeout=parsed.start_timeout,
        info_file=parsed.info_file,
        plugins=_plugins(parsed.plugins),
        max_running_jobs=parsed.max_running_jobs,
    )


def _plugins(path: Path | None) -> PluginFolder | None:
    """Return the plugin folder after reading it, so that a bad path is reported early."""
    if path is None:
        return None
    from airflow_provider_rayagent.local.plugin_folder import PluginFolder

    folder = PluginFolder(path)
    folder.read()
    return folder


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalAgentError(f"Cannot read the token file {path}: {error}") from error


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError("must be from 0 to 65535")
    return number


if __name__ == "__main__":
    sys.exit(main())
