"""Amounts of resources as people write them. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_GIB = 2**30
_UNITS: Mapping[str, tuple[str, int]] = {
    "CPU": ("CPU", 1),
    "GPU": ("GPU", 1),
    "memory": ("GiB of memory", _GIB),
    "object_store_memory": ("GiB of object store memory", _GIB),
}
_MARKS = {"accelerator_type": "accelerator type", "node": "node"}
"""What Ray's resources of these prefixes stand for: a task that requires a bit of one must run on such a node."""


def is_mark(resource: str) -> bool:
    """Return whether a resource marks nodes, so that its amount does not matter."""
    prefix, _, rest = resource.partition(":")
    return bool(rest) and prefix in _MARKS


def unit_of(resource: str) -> tuple[str, int]:
    """Return the unit of one of Ray's resources, in the singular, and how much of it one unit is."""
    return _UNITS.get(resource, (resource, 1))


def shown_number(resource: str, amount: float) -> str:
    """Return an amount in the unit of its resource, without the unit."""
    _, size = unit_of(resource)
    # Ray counts in units of 0.0001 (``raylet/scheduling/fixed_point.h``).
    return f"{amount / size:.{4 if size == 1 else 2}f}".rstrip("0").removesuffix(".")


def shown_unit(resource: str, number: str) -> str:
    """Return the unit of a resource, in the plural unless the number is 1."""
    return f"{unit_of(resource)[0]}{'s' if resource in ('CPU', 'GPU') and number != '1' else ''}"


def shown_amount(resource: str, amount: float) -> str:
    """Return an amount of a resource, such as ``2 GPUs`` or ``accelerator type A100``."""
    if is_mark(resource):
        prefix, _, rest = resource.partition(":")
        return f"{_MARKS[prefix]} {rest}"
    unit, size = unit_of(resource)
    if size == _GIB and 0 < amount < _GIB / 10:
        return f"{amount / 2**20:.4g} {unit.replace('GiB', 'MiB')}"
    number = shown_number(resource, amount)
    return f"{number} {shown_unit(resource, number)}"


def shown_resources(resources: Mapping[str, float]) -> str:
    """Return amounts by the names of their resources, such as ``3 CPUs and 1 GPU``."""
    *first, last = [shown_amount(*item) for item in resources.items()] or ["nothing"]
    return f"{', '.join(first)} and {last}" if first else last
