"""Keys of XComs. Pure."""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import quote

MAX_KEY = 250
"""Characters; a column of Airflow's database has 512."""

MAX_QUOTED_NAME = 200
"""Characters of a quoted name of a link in a key; of a longer one, the key has a digest."""

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_RESERVED = re.compile(r"return_value|job_id|skipmixin_key|_.*|rayagent_.*")
"""XComs that have a meaning for Airflow or for this provider."""


def key_of_printed_link(name: str) -> str:
    """Return the key of the XCom with the URL of a link that the job prints."""
    # A name can have spaces and more, which a key cannot.
    quoted = quote(name, safe="").replace("~", "%7E").replace(".", "%2E").replace("%", ".")
    if len(quoted) > MAX_QUOTED_NAME:
        quoted = sha256(quoted.encode()).hexdigest()
    return f"_link_PrintedLink_{quoted}"


def key_problem(key: object) -> str:
    """Return why an XCom cannot have this key; empty if it can.

    Airflow makes the key a part of a URL of its API server, and does not quote it (``XComOperations.set`` in
    ``airflow/sdk/api/client.py``): with ``..``, ``?``, ``#`` or ``%2e`` in it, the request reaches another route.
    """
    if isinstance(key, str) and len(key) <= MAX_KEY and _KEY.fullmatch(key) and ".." not in key:
        return ""
    return (
        f"the key of an XCom must be 1 to {MAX_KEY} characters of A-Z, a-z, 0-9, '_', '-' and '.', without '.' at its "
        "beginning and without '..'"
    )


def key_problem_of_job(key: str) -> str:
    """Return why a job cannot set the XCom with this key, which it quotes as it is; empty if it can."""
    if problem := key_problem(key):
        return f"{problem}, not {key}"
    return f"Airflow or this provider uses the XCom {key} itself" if _RESERVED.fullmatch(key) else ""
