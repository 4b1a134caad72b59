"""Codes of the problems that a task log reports. Pure.

A code is the beginning of its message, ``RA-201: Nothing listens at …``, and the heading of its section in
``docs/error-codes.md``. Problems that require the same action share a code. Codes are stable: one that is no longer
needed is never used for another problem.
"""

from __future__ import annotations

from enum import Enum


class Code(str, Enum):
    """A kind of problem, by the action that it requires.

    There are no codes from 400 to 599, since messages also contain HTTP statuses.
    """

    # 1xx: the job did not succeed.
    PROGRAM_FAILED = "RA-101"
    OUT_OF_MEMORY = "RA-102"
    PROCESS_LOST = "RA-103"
    RUNTIME_ENV = "RA-104"
    LACKS_RESOURCES = "RA-105"
    RAY_FAILED = "RA-106"
    CAUSE_UNKNOWN = "RA-107"
    JOB_STOPPED = "RA-108"
    UNKNOWN_STATUS = "RA-109"
    JOB_MISSING = "RA-110"
    JOB_TIMED_OUT = "RA-111"
    DETAILS_UNRELIABLE = "RA-112"
    JOB_STALLED = "RA-113"

    # 2xx: the service of the connection.
    UNREACHABLE = "RA-201"
    NO_ANSWER = "RA-202"
    TLS = "RA-203"
    TOKEN = "RA-204"  # noqa: S105 - no secret
    NOT_THE_SERVICE = "RA-205"
    SERVICE_FAILED = "RA-206"
    REQUEST_REFUSED = "RA-207"
    CONNECTION_SETTING = "RA-208"
    UNSUPPORTED = "RA-209"
    CLUSTER_REFUSED = "RA-210"
    KUBERNETES = "RA-211"

    # 3xx: the log of the job, and what it says to Airflow.
    LOG_UNREADABLE = "RA-301"
    LOG_INCOMPLETE = "RA-302"
    LOG_REWRITTEN = "RA-303"
    STREAM_PROBLEM = "RA-304"
    TAKEN_OVER = "RA-305"
    LINES_LOST = "RA-306"
    POSITION_NOT_SAVED = "RA-307"
    NO_RESULT = "RA-308"
    STREAM_LIMIT = "RA-309"
    INVALID_MESSAGE = "RA-310"

    # 6xx: starting a job.
    INVALID_ARGUMENT = "RA-601"
    WORKING_DIR = "RA-602"
    JOB_ID_TAKEN = "RA-603"
    NO_FREE_RESOURCES = "RA-604"
    NOT_STARTED = "RA-605"
    START_UNKNOWN = "RA-606"
    OTHER_JOB_ID = "RA-607"
    TASK_IDENTITY = "RA-608"
    EXISTING_JOB = "RA-609"
    CLUSTER_FAILED = "RA-610"

    # 7xx: stopping a job, deleting, waiting and watching.
    STOP_FAILED = "RA-701"
    STILL_THERE = "RA-702"
    NO_TRIGGERER = "RA-703"
    NOT_STOPPED = "RA-704"
    NOTHING_TO_DO = "RA-705"
    APPLICATION_FAILED = "RA-706"
    APPLICATION_TIMED_OUT = "RA-707"
    CAPACITY_TIMED_OUT = "RA-708"
    SHARED_WATCHER = "RA-709"
    CLUSTER_NOT_DELETED = "RA-710"

    def __str__(self) -> str:
        return self.value


def coded(code: Code, text: str) -> str:
    """Return a message with its code in front of it."""
    return f"{code.value}: {text}"
