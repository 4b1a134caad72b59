"""Run the function of a ``@task.ray`` task as the driver of a Ray job.

It is sent to the cluster: it imports the standard library only, and runs on Python 3.9 and newer. ``call.json`` beside
it has the function and its arguments.
"""

from __future__ import annotations
import __future__

import ast
import asyncio
import contextlib
import importlib.abc
import importlib.machinery
import inspect
import json
import linecache
import os
import re
import sys
import sysconfig
import traceback
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .plain_json import check_json  # noqa: TID252 - on the cluster, this package has another name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec

_FOLDER = Path(__file__).parent
MAX_MESSAGE = 2000
MAX_FRAMES = 20
SKIP, FAIL = "AirflowSkipException", "AirflowFailException"

_FRAME = re.compile(r'^  File "([^"]+)", line (\d+), in (\S+)', re.MULTILINE)


def run(namespace: dict[str, Any]) -> int:
    """Call the function, print its outcome, and return the exit code.

    :param namespace: the global variables of the function.
    """
    call = json.loads((_FOLDER / "call.json").read_text())
    sys.meta_path.append(_AirflowExceptions())
    raised: BaseException | None = None
    _continue_trace()
    try:
        function = _define(call, namespace)
        value = function(*call["args"], **call["kwargs"])
        if inspect.iscoroutine(value):
            value = asyncio.run(value)
        outcome = {"value": json.loads(check_json(value, f"The return value of {call['name']}", call["max_chars"]))}
    except BaseException as error:  # noqa: BLE001 - reported to the task
        if isinstance(error, SystemExit) and _is_success(error.code):
            outcome = {"value": None}
        elif _is_named(error, SKIP):
            outcome = {"skip": _text(_cause(error))[:MAX_MESSAGE]}
        else:
            raised = error
            outcome = {"error": _described(error, call)}
    _print_outcome(outcome, call["markers"])
    if raised is None:
        return 0
    # Last, since Ray tells the cause of a failure from the last lines of the log, as the provider does.
    _print_traceback(raised)
    return 1


def _continue_trace() -> None:
    """Make the span of the task the parent of those of the function, if there is one, and OpenTelemetry."""
    carrier = {name: value for name in ("traceparent", "tracestate") if (value := os.environ.get(name.upper()))}
    if carrier:
        # A broken installation of OpenTelemetry is no failure of the function.
        with contextlib.suppress(Exception):
            from opentelemetry import context
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            context.attach(TraceContextTextMapPropagator().extract(carrier))


def _define(call: dict[str, Any], namespace: dict[str, Any]) -> Callable[..., Any]:
    """Execute the function's definition with the line numbers that it has in the DAG file, and return the function."""
    # Registered under the name of the DAG file, which the cluster does not have, so that tracebacks show the lines.
    lines = [""] * (call["first_line"] - 1) + call["source"].splitlines(keepends=True)
    linecache.cache[call["file"]] = (sum(map(len, lines)), None, lines, call["file"])
    indented = call["source"][:1].isspace()
    # A block keeps the indentation of the source, which text in several lines may depend on.
    tree = ast.parse("if True:\n" + call["source"] if indented else call["source"], call["file"])
    statement = tree.body[0].body[0] if indented else tree.body[0]
    ast.increment_lineno(statement, call["first_line"] - 1 - indented)
    # What belongs to the DAG file: decorators, annotations, and defaults, which Airflow has added to the arguments.
    statement.decorator_list = []
    statement.returns = None
    arguments = statement.args
    for argument in [
        *getattr(arguments, "posonlyargs", []),
        *arguments.args,
        *arguments.kwonlyargs,
        arguments.vararg,
        arguments.kwarg,
    ]:
        if argument is not None:
            argument.annotation = None
    arguments.defaults = [_literal(each) for each in arguments.defaults]
    arguments.kw_defaults = [each and _literal(each) for each in arguments.kw_defaults]
    flags = __future__.annotations.compiler_flag if call["future_annotations"] else 0
    code = compile(ast.Module([statement], []), call["file"], "exec", flags, dont_inherit=True)
    exec(code, namespace)  # noqa: S102
    function: Callable[..., Any] = namespace[call["name"]]
    return function


def _literal(default: ast.expr) -> ast.expr:
    try:
        ast.literal_eval(default)
    except (ValueError, TypeError):
        return ast.copy_location(ast.Constant(None), default)
    return default


def _is_success(code: object) -> bool:
    """Whether ``sys.exit`` with this argument is a success: of ``''``, Python makes the exit code 1."""
    return code is None or (isinstance(code, int) and code == 0)


def _text(error: BaseException) -> str:
    """Return the message of an exception, which its class makes."""
    try:
        return str(error)
    except BaseException as wrong:  # noqa: BLE001 - also what is no Exception would hide the exception itself
        return f"<its message cannot be read: {type(wrong).__name__}>"


def _is_named(error: BaseException, name: str) -> bool:
    return any(kind.__name__ == name for kind in type(error).__mro__)


def _cause(error: BaseException) -> BaseException:
    """Return the error of a Ray task or actor, which Ray raises as a RayTaskError; any other as it is."""
    cause = getattr(error, "cause", None) if _is_named(error, "RayTaskError") else None
    return cause if isinstance(cause, BaseException) else error


def _print_traceback(error: BaseException) -> None:
    """Print the traceback without the frames of this module."""
    shown = traceback.TracebackException.from_exception(error)
    each: traceback.TracebackException | None = shown
    seen: set[int] = set()
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        frames = [frame for frame in each.stack if frame.filename != __file__]
        each.stack = traceback.StackSummary.from_list(frames)
        each = each.__cause__ or each.__context__
    _write(2, "".join(shown.format()))


def _described(error: BaseException, call: dict[str, Any]) -> dict[str, Any]:
    inner = _cause(error)
    frames = [(frame.filename, frame.lineno, frame.name) for frame in traceback.extract_tb(error.__traceback__)]
    if inner is not error:
        # Of the process in which it was raised.
        frames += [(file, int(line), name) for file, line, name in _FRAME.findall(_text(error))]
    message = _text(inner)
    if isinstance(inner, SystemExit):
        message = f"the function called sys.exit({inner.code!r})"
    elif isinstance(inner, SyntaxError):
        message += f". The cluster runs Python {sys.version.split()[0]}"
    elif isinstance(inner, ImportError) and (inner.name or "").split(".")[0] == "airflow":
        message += (
            f". The cluster does not have Airflow: a function can import {', '.join(_EXCEPTIONS)} from it, no more"
        )
    elif isinstance(inner, ModuleNotFoundError):
        message += ". The cluster does not have it: name its package in requirements, or its folder in working_dir"
    elif isinstance(inner, NameError):
        message += (
            f". Only the function {call['name']} is sent to the cluster, not the DAG file: import or define in the "
            "function what it uses, or pass it as an argument"
        )
    return {
        "type": type(inner).__name__,
        "message": message[:MAX_MESSAGE],
        "frames": [frame for frame in frames if _is_own(frame[0])][-MAX_FRAMES:],
        "final": _is_named(inner, FAIL),
    }


_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def _is_own(file: str) -> bool:
    """Whether a file is the user's own, not one of Python, of an installed package or of this module."""
    if file.startswith((*_LIBRARIES, "<", str(_FOLDER))):
        return False
    # A virtual environment of Ray's also has the packages of the Python that it was made from.
    return not {"site-packages", "dist-packages"} & set(Path(file).parts)


def _print_outcome(outcome: dict[str, Any], markers: Sequence[str]) -> None:
    for stream in (sys.stdout, sys.stderr):
        # The function may have closed it, or have put another object in its place.
        with contextlib.suppress(Exception):
            stream.flush()
    start, end = markers
    # In the JSON, the end marker can only be a part of a string.
    text = json.dumps(outcome).replace(end, "".join(f"\\u{ord(char):04x}" for char in end))
    _write(1, f"{start}{text}{end}\n")


def _write(descriptor: int, text: str) -> None:
    # Not to sys.stdout or sys.stderr, which the function may have closed. In one write, since the output of other
    # processes goes to the same file.
    data = text.encode("utf-8", "backslashreplace")
    while data:
        data = data[os.write(descriptor, data) :]


class _AirflowExceptions(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Provides Airflow's exceptions that mean something for a task, where Airflow is not installed."""

    MODULES = ("airflow", "airflow.exceptions", "airflow.sdk", "airflow.sdk.exceptions")

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        """Return a module with the exceptions."""
        if fullname not in self.MODULES:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Return an empty module."""
        return types.ModuleType(spec.name)

    def exec_module(self, module: Any) -> None:
        """Define the exceptions, which are the same in each module."""
        vars(module).update(_EXCEPTIONS)


class _AirflowException(Exception):  # noqa: N818
    pass


class _AirflowSkipException(_AirflowException):
    pass


class _AirflowFailException(_AirflowException):
    pass


_AirflowSkipException.__name__ = SKIP
_AirflowFailException.__name__ = FAIL
_EXCEPTIONS = {"AirflowException": _AirflowException, SKIP: _AirflowSkipException, FAIL: _AirflowFailException}
