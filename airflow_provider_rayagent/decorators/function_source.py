"""The function of a ``@task.ray`` task: what of it can run on the cluster, and its source. Pure."""

from __future__ import annotations
import __future__

import builtins
import dis
import inspect
import linecache
import sys
from contextlib import suppress
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary

from airflow_provider_rayagent.errors.service_errors import RayAgentInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BUILTINS = vars(builtins)
_OPERATIONS = (
    "LOAD_GLOBAL",
    "STORE_GLOBAL",
    "DELETE_GLOBAL",
    "LOAD_NAME",
    "STORE_NAME",
    "LOAD_FROM_DICT_OR_GLOBALS",
)
# Since Python 3.11, the last bit of the argument of LOAD_GLOBAL is no part of the name's number.
_SHIFTS = {
    dis.opmap[name]: int(name == "LOAD_GLOBAL" and sys.version_info >= (3, 11))
    for name in _OPERATIONS
    if name in dis.opmap
}
_GIVEN = frozenset(("__file__", "__name__", "__builtins__"))
_parsed: WeakKeyDictionary[FunctionType, Sequence[str]] = WeakKeyDictionary()
"""The lines of the file of each function that was checked; those of one file share a list."""


class FunctionSource(NamedTuple):
    """The definition of a function as it stands in its file, with its decorators.

    :param file: path of the file.
    :param first_line: number of its first line there.
    :param future_annotations: whether the file has ``from __future__ import annotations``.
    """

    name: str
    text: str
    file: str
    first_line: int
    future_annotations: bool


def check_function(function: Any) -> None:
    """Check that a function can run without the DAG file.

    :raises RayAgentInputError: if it is not one ``def`` with everything in it that it uses.
    """
    name = getattr(function, "__name__", type(function).__name__)
    if not isinstance(function, FunctionType) or name == "<lambda>":
        raise RayAgentInputError(f"@task.ray needs a function that is defined with def, not {name}.")
    if hasattr(function, "__wrapped__"):
        raise RayAgentInputError(
            f"@task.ray must be the decorator next to the function {name}: a decorator between them belongs to the DAG "
            "file, which the cluster does not have."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise RayAgentInputError(f"The function {name} of @task.ray yields values; return a list instead.")
    _check_names(function)
    file = function.__code__.co_filename
    linecache.checkcache(file)
    _parsed[function] = linecache.getlines(file, function.__globals__)


def _check_names(function: FunctionType) -> None:
    outside = [each for each in function.__code__.co_freevars if each != function.__name__]
    outside += sorted(_global_names(function) - {function.__name__})
    if not outside:
        return
    values = {**function.__globals__, **_enclosed(function)}
    imported = [each for each in outside if _is_imported(values.get(each), function)]
    others = [each for each in outside if each not in imported]
    remedies = {"import {} in the function": imported, "define {} in the function, or pass its value": others}
    remedy = "; ".join(
        text.format("it" if names == outside else ", ".join(names)) for text, names in remedies.items() if names
    )
    raise RayAgentInputError(
        f"The function {function.__name__} of @task.ray uses {', '.join(outside)} of the DAG file, which the cluster "
        f"does not have: {remedy}."
    )


def _enclosed(function: FunctionType) -> dict[str, Any]:
    """Return the variables that a function uses of a function around it."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # A cell is empty until its variable is assigned.
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _is_imported(value: Any, function: FunctionType) -> bool:
    """Return whether a value comes from another module than a function does."""
    if isinstance(value, ModuleType):
        return True
    return isinstance(value, (type, FunctionType, BuiltinFunctionType)) and value.__module__ != function.__module__


def _global_names(function: FunctionType) -> set[str]:
    """Return the global variables of the DAG file that a function uses."""
    names = function.__globals__
    # One that hides a builtin function, such as a ``sum`` of another package, is not the same on the cluster.
    hiding = {name for name in names.keys() & _BUILTINS.keys() if names[name] is not _BUILTINS[name] and name[0] != "_"}
    known = (names.keys() - _BUILTINS.keys() - _GIVEN) | hiding
    read, defined = set(), set()
    for code in _codes(function.__code__):
        # The names of attributes are among these too, but most code has none of them: reading instructions takes long.
        if known.isdisjoint(code.co_names):
            continue
        in_class: set[str] = set()
        for operation, name in _uses_of_names(code):
            if operation in ("STORE_GLOBAL", "DELETE_GLOBAL"):
                defined.add(name)
            elif operation == "STORE_NAME":
                in_class.add(name)
            elif name not in in_class:
                read.add(name)
    return (read - defined) & known


def _uses_of_names(code: CodeType) -> Iterator[tuple[str, str]]:
    """Yield the operation and the name of each instruction for a variable that is no local one.

    ``dis.get_instructions`` takes ten times as long, since it describes every instruction.
    """
    extended = 0
    for operation, low in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        argument = extended | low
        extended = argument << 8 if operation == dis.EXTENDED_ARG else 0
        if operation in _SHIFTS:
            yield dis.opname[operation], code.co_names[argument >> _SHIFTS[operation]]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function and of the functions and classes in it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes(each)


def source_of(function: FunctionType) -> FunctionSource:
    """Return the source of a function that was checked, as it was then: its file may have another one by now.

    :raises RayAgentInputError: if it has no file, such as in an interactive interpreter.
    """
    code = function.__code__
    lines = _parsed.get(function) or linecache.getlines(code.co_filename, function.__globals__)
    if not lines:
        raise RayAgentInputError(
            f"The source of the function {function.__name__} of @task.ray is not available: {code.co_filename} cannot "
            "be read."
        )
    # As ``inspect.getsourcelines`` does, which reads the file again.
    block = inspect.getblock(lines[code.co_firstlineno - 1 :])
    has_future = bool(code.co_flags & __future__.annotations.compiler_flag)
    return FunctionSource(
        function.__name__, "".join(block), str(Path(code.co_filename).absolute()), code.co_firstlineno, has_future
    )
