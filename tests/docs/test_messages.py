"""The pages quote what the code says, and each problem with its code."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from airflow.sdk import BaseSensorOperator
from airflow.sdk.execution_time.timeout import TimeoutPosix

from airflow_provider_rayagent import exceptions
from airflow_provider_rayagent.connection.config import ServiceConfig
from airflow_provider_rayagent.connection.fields import field_name
from airflow_provider_rayagent.errors.service_errors import RayAgentError
from airflow_provider_rayagent.failures.explanation import explain
from airflow_provider_rayagent.services.call import Call
from airflow_provider_rayagent.text.codes import Code, coded
from airflow_provider_rayagent.transport.responses import read_response
from tests.docs.conftest import PAGES, ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PACKAGE = ROOT / "airflow_provider_rayagent"
CODES = (PAGES / "error-codes.md").read_text(encoding="utf-8")
TROUBLESHOOTING = (PAGES / "troubleshooting.md").read_text(encoding="utf-8")
LOCAL_AGENT = (PAGES / "local-agent.md").read_text(encoding="utf-8")
TABLES = TROUBLESHOOTING + LOCAL_AGENT.partition("\n## Limits and messages\n")[2].partition("\n## ")[0]
SECTIONS = dict(re.findall(r"^### (RA-\d{3})\n(.*?)(?=^##|\Z)", CODES, flags=re.MULTILINE | re.DOTALL))
"""The text of each section by the code that is its heading."""
QUOTES = [
    (code, quote) for code, text in SECTIONS.items() for quote in re.findall(r"^> (.*)$", text, flags=re.MULTILINE)
]
ENDED_BY = {
    "status": "FAILED",
    "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR",
    "driver_exit_code": 1,
    "message": "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n",
}
JOBS: list[dict[str, Any]] = [
    *(
        {**ENDED_BY, "message": f"{ENDED_BY['message']}    frame()\n{exception}\n"}
        for exception in ("ray.exceptions.ObjectStoreFullError: x", "ray.train.v2.api.exceptions.PreemptionError: x")
    ),
    {"status": "FAILED", "error_type": "JOB_ENTRYPOINT_COMMAND_ERROR", "driver_exit_code": 3},
    {
        "status": "FAILED",
        "error_type": "JOB_SUPERVISOR_ACTOR_DIED",
        "message": "due to the node running low on memory",
    },
    {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED", "message": "its node has died"},
    {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_DIED"},
    {"status": "FAILED", "error_type": "RUNTIME_ENV_SETUP_FAILURE"},
    {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE"},
    {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"},
    {"status": "FAILED", "error_type": "JOB_SUPERVISOR_ACTOR_START_FAILURE"},
    {"status": "FAILED"},
    {"status": "STOPPED"},
    {"status": "EXPLODED"},
]
"""A job for each cause of a failure."""
GPUS = b'{"error_type": "gpu_unavailable", "message": "It needs 4 GPUs on one node; the largest node has 2."}'
ANSWERS = (
    (200, b"<html>"),
    (401, b"{}"),
    (403, b"{}"),
    (404, b'{"detail": "no"}'),
    (404, b"no"),
    (503, b"{}"),
    (503, GPUS),
)


class Message(NamedTuple):
    """A text of the code, with ``…`` for what it fills in, and the code in front of it, if it is known."""

    text: str
    code: Code | None = None


class Module:
    """The messages of a module."""

    def __init__(self, path: Path) -> None:
        self._tree = ast.parse(path.read_text(encoding="utf-8"))
        self._values: dict[str, list[ast.expr]] = {}
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._values.setdefault(node.targets[0].id, []).append(node.value)

    def messages(self) -> Iterator[Message]:
        """Yield the texts in the module."""
        for node in ast.walk(self._tree):
            if isinstance(node, (ast.Constant, ast.JoinedStr, ast.BinOp)):
                yield from (Message(text) for text in _plain_texts(node))
            elif isinstance(node, ast.Call):
                yield from self._of_call(node)
            elif isinstance(node, ast.Tuple) and len(node.elts) == 3:
                code = _code_of_class(node.elts[1])
                yield from (Message(text, code) for text in _plain_texts(node.elts[2]) if code)

    def _of_call(self, call: ast.Call) -> Iterator[Message]:
        name = ast.unparse(call.func).rpartition(".")[2]
        given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        arguments = call.args
        if name in ("coded", "_add_notice") and len(arguments) > 1:
            code, arguments = _code_of(arguments[0]), arguments[1:]
        elif name == "working_dir_error":
            code = Code.WORKING_DIR
        elif name == "_timed_out":
            code = _code_of(given[0]) if given else Code.STILL_THERE
        else:
            code = _code_of(given[0]) if given else _code_of_class(call.func)
        if code is not None and arguments:
            for value in self._possible(arguments[0]):
                yield from (Message(text, code) for text in _plain_texts(value))

    def _possible(self, node: ast.expr) -> list[ast.expr]:
        """Return the values that an expression can have; of joined lines, the first one."""
        if isinstance(node, ast.Name):
            return self._values.get(node.id, [])
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.List):
            return node.args[0].elts[:1]
        return [node]


def _code_of(node: ast.expr) -> Code | None:
    _, is_ours, name = ast.unparse(node).partition("Code.")
    return Code[name] if is_ours else None


def _code_of_class(node: ast.expr) -> Code | None:
    kind = getattr(exceptions, ast.unparse(node), None)
    return kind.code if isinstance(kind, type) and issubclass(kind, RayAgentError) else None


def _plain_texts(node: ast.expr) -> Iterator[str]:
    for text in _texts(node):
        yield _plain(re.sub(r"…+", "…", text))


def _texts(node: ast.AST) -> list[str]:
    """Return what an expression can be as a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [re.sub(r"%[.0-9]*[a-z]", "…", node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(_texts(part)[0] for part in node.values)]
    if isinstance(node, ast.FormattedValue) and ast.unparse(node.value).startswith("field_name('"):
        return [field_name(ast.unparse(node.value).split("'")[1])]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return ["".join(pair) for pair in itertools.product(_texts(node.left), _texts(node.right))]
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    return ["…"]


def _plain(text: str) -> str:
    return " ".join(text.split())


MESSAGES = {message for path in PACKAGE.rglob("*.py") for message in Module(path).messages()}


def emitted() -> Iterator[str]:
    """Yield messages that are put together when they are needed, as the code does it."""
    for job in JOBS:
        explanation = explain(job, "j1", log_is_shown=True)
        yield coded(explanation.code, explanation.text)
    call = Call("GET", "jobs/")
    for status, body in ANSWERS:
        with pytest.raises(RayAgentError) as refused:
            read_response(call, status, {}, body, ServiceConfig("https://agent.example.com"))
        yield str(refused.value)


def begins_with(message: str, quote: str) -> bool:
    """Whether a message begins with a quoted sentence, in which ``…`` stands for any text of one line."""
    return re.match("[^\\n]*".join(map(re.escape, quote.split("…"))), message) is not None


def is_said(code: str, quote: str) -> bool:
    """Whether the code says this, with this code in front of it."""
    if any(begins_with(text, quote) for text in emitted()):
        return True
    told, _, text = quote.partition(": ")
    return told == code and any(message.code == code and text in message.text for message in MESSAGES)


def test_every_code_has_one_section_and_every_section_a_code() -> None:
    headings = re.findall(r"^### (RA-.*)$", CODES, flags=re.MULTILINE)
    assert headings == sorted(code.value for code in Code)
    assert all(quote.startswith(f"{code}: ") for code, quote in QUOTES)


def test_every_code_is_used() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py") if path.name != "codes.py")
    assert [code.name for code in Code if f"Code.{code.name}" not in source] == []


def test_no_code_looks_like_a_status_of_http() -> None:
    assert [code for code in Code if re.fullmatch("RA-[45]..", code)] == []


@pytest.mark.parametrize(("code", "quote"), QUOTES)
def test_a_message_is_quoted_as_the_code_says_it(code: str, quote: str) -> None:
    assert is_said(code, quote)


def test_airflows_own_messages_are_quoted_as_it_says_them() -> None:
    said = {
        "AirflowTaskTimeout": TimeoutPosix().error_message,  # type: ignore[no-untyped-call]
        "AirflowSensorTimeout": inspect.getsource(BaseSensorOperator.execute),
    }
    quotes = re.findall(r"^\| `(Airflow\w+): (.*)…` \|", TROUBLESHOOTING, flags=re.MULTILINE)
    assert [name for name, _ in quotes] == list(said)
    assert [text for name, text in quotes if text not in said[name]] == []


@pytest.mark.parametrize("job", JOBS)
def test_every_cause_of_a_failed_job_is_in_the_section_of_its_code(job: dict[str, Any]) -> None:
    explanation = explain(job, "j1", log_is_shown=True)
    message = coded(explanation.code, explanation.text)
    quotes = [quote for code, quote in QUOTES if code == explanation.code]
    assert any(begins_with(message, quote) for quote in quotes)


@pytest.mark.parametrize("cell", re.findall(r"^\| `(?!Airflow)([^`\\]+)` \|", TABLES, flags=re.MULTILINE))
def test_a_message_in_a_table_is_in_the_code(cell: str) -> None:
    assert any(cell in message.text for message in MESSAGES)
