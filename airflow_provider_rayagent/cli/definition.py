"""Definitions of the commands of ``airflow rayagent``.

Every ``airflow`` command loads this module, which therefore imports nothing else of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.cli.cli_config import (
    ARG_OUTPUT,
    ARG_VERBOSE,
    ARG_YES,
    ActionCommand,
    Arg,
    GroupCommand,
    lazy_load_command,
    positive_int,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

# This and STATUSES are copies, since an import would slow down every command; a test compares them with the originals.
DEFAULT_CONN_ID = "rayagent_default"
DEFAULT_LIMIT = 20
STATUSES = ("PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED")
"""Statuses of a job to select by, as in Ray."""

_CONN_ID = Arg(
    ("--conn-id",),
    help="The Airflow connection of type rayagent (default: %(default)s)",
    default=DEFAULT_CONN_ID,
    metavar="CONN_ID",
)
_CLUSTER = Arg(
    ("--cluster",),
    help="The cluster, if the Service URL of the connection has {cluster} in it",
    metavar="NAME",
)
_JOB_ID = Arg(("job_id",), help="The id of the job (Ray's submission id)")
_ANY_JOB_ID = Arg(("job_id",), help="The id of one job, to show its details", nargs="?")
_STATUS = Arg(("--status",), help="List only jobs with this status", choices=STATUSES, type=str.upper)
_LIMIT = Arg(
    ("--limit",),
    help="List at most so many jobs (default: %(default)s)",
    default=DEFAULT_LIMIT,
    type=positive_int(allow_zero=False),
    metavar="NUMBER",
)
_FOLLOW = Arg(("-f", "--follow"), help="Follow the job to its end; exit with its outcome", action="store_true")
_DOCTOR_JOB_ID = Arg(
    ("--job-id",),
    help="The job whose log to read (default: the last one that runs, or the last one)",
    metavar="JOB_ID",
)
_STOP = Arg(("--stop",), help="Stop the orphans, after a confirmation", action="store_true")
_OLDER_THAN = Arg(
    ("--older-than",),
    help="Delete the records of jobs that ended before so many days",
    required=True,
    type=positive_int(allow_zero=False),
    metavar="DAYS",
)
_CODE = Arg(("code",), help="The code, such as RA-206")
_EXIT_CODES = """\
Exit codes:
  0    success; logs -f: the job SUCCEEDED; doctor: nothing is wrong
  1    logs -f: the job FAILED, or has an unknown status; stop, orphans, clean: not confirmed; stop: not stopped;
       doctor: something is to be corrected
  2    the arguments or the connection are invalid
  3    logs -f: the job was STOPPED
  4    the job does not exist
  5    the service cannot be reached, or answered with an error
  6    the service cannot do this
  7    the output cannot be written
  130  Ctrl-C
  141  the reader of the output has ended, such as head
"""


def _command(
    name: str, help_text: str, example: str, *args: Arg, service: Sequence[Arg] = (_CONN_ID, _CLUSTER)
) -> ActionCommand:
    """Return the definition of a command.

    :param example: the arguments in the example of its help.
    :param service: options that name the service which it asks.
    """
    return ActionCommand(
        name=name,
        help=help_text,
        func=lazy_load_command(f"airflow_provider_rayagent.cli.subcommands.{name}"),
        args=(*args, *service, ARG_VERBOSE),
        epilog=f"Example: airflow rayagent {name} {example}\n\n{_EXIT_CODES}",
    )


def get_commands() -> list[GroupCommand]:
    """Return the group ``airflow rayagent``."""
    return [
        GroupCommand(
            name="rayagent",
            help="See and stop Ray jobs, read their logs, and examine a connection",
            subcommands=(
                _command(
                    "jobs",
                    "List the jobs, newest first, or show one",
                    "--status running --output json",
                    *(_ANY_JOB_ID, _STATUS, _LIMIT, ARG_OUTPUT),
                ),
                _command("logs", "Print the log of a job", "--follow train-20260131", _JOB_ID, _FOLLOW),
                _command("stop", "Stop a job", "train-20260131 --yes", _JOB_ID, ARG_YES),
                _command(
                    "orphans",
                    "List or stop jobs that a task has started and none needs",
                    "--stop",
                    *(_STOP, ARG_YES, ARG_OUTPUT),
                ),
                _command(
                    "clean",
                    "Delete Ray's records of jobs that ended long ago",
                    "--older-than 30",
                    *(_OLDER_THAN, ARG_YES),
                ),
                _command("nodes", "List the nodes of the cluster", "--output json", ARG_OUTPUT),
                _command(
                    "gpus",
                    "List the GPUs of the cluster, and how many are free",
                    "--conn-id rayagent_default",
                    ARG_OUTPUT,
                ),
                _command("apps", "List the Serve applications", "--output yaml", ARG_OUTPUT),
                _command(
                    "doctor",
                    "Check the connection step by step; say what to correct",
                    "--job-id train-20260131",
                    _DOCTOR_JOB_ID,
                ),
                _command("explain", "Say what a code in a message means, and what to do", "RA-206", _CODE, service=()),
            ),
        )
    ]
